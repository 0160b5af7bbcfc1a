// What became of something, told to the person: in their language, with what the gateway said; at the bottom, where it
// covers no banner.
import { ElMessage } from "element-plus/es/components/message/index";
import "element-plus/es/components/message/style/css";

import { Problem } from "../api/client";
import { said, t } from "../i18n";

export function problemText(problem: unknown): string {
  if (!(problem instanceof Problem)) return problem instanceof Error ? problem.message : String(problem);
  const wait = problem.retryAfterS === undefined ? "" : ` ${t("problem.retry", { s: problem.retryAfterS })}`;
  return `${said(problem.titles)}${problem.detail ? ` (${problem.detail})` : ""}${wait}`;
}

export function tell(problem: unknown): void {
  if (problem instanceof DOMException && problem.name === "AbortError") return;
  ElMessage({ type: "error", message: problemText(problem), duration: 8000, showClose: true, grouping: true, placement: "bottom" });
}

export function done(text: string): void {
  ElMessage({ type: "success", message: text, duration: 2500, grouping: true, placement: "bottom" });
}
