// What became of something, in the person's language, with what the gateway said.
import { Problem } from "../api/client";
import { said, t } from "../i18n";

export function problemText(problem: unknown): string {
  if (!(problem instanceof Problem)) return problem instanceof Error ? problem.message : String(problem);
  const wait = problem.retryAfterS === undefined ? "" : ` ${t("problem.retry", { s: problem.retryAfterS })}`;
  return `${said(problem.titles)}${problem.detail ? ` (${problem.detail})` : ""}${wait}`;
}
