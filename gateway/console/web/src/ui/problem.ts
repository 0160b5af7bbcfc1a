// What became of something, told to the person: at the bottom, where it covers no banner.
import { ElMessage } from "element-plus/es/components/message/index";
import "element-plus/es/components/message/style/css";

import { problemText } from "./problemText";

export { problemText };

export function tell(problem: unknown): void {
  if (problem instanceof DOMException && problem.name === "AbortError") return;
  ElMessage({ type: "error", message: problemText(problem), duration: 8000, showClose: true, grouping: true, placement: "bottom" });
}

export function done(text: string): void {
  ElMessage({ type: "success", message: text, duration: 2500, grouping: true, placement: "bottom" });
}
