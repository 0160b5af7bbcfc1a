// How far the work on an alarm is, as a mark; the words stand elsewhere, for the alarm list does without.
import type { WorkState } from "./types";

export const WORK_MARKS: Record<WorkState, string> = {
  NONE: "", DISPATCHED: "→", ACCEPTED: "✓", ON_SITE: "◎", DONE: "■", VERIFYING: "◐", CLOSED: "●", REJECTED: "✕",
};
