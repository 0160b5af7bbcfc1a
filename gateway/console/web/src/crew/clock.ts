// The phone's clock against the gateway's: what a crew did late at night counts, so a phone that is ten minutes fast must
// not make it look undone.
import { api } from "../api/client";

const SURE_MS = 2_000; // the gateway says whole seconds, and an answer takes its time

let ahead = 0; // ms by which the phone's clock is ahead

/** Learn from an answer that was just heard. */
export function learn(date: string | null, now = Date.now()): void {
  const theirs = date === null ? Number.NaN : Date.parse(date);
  if (Number.isNaN(theirs)) return;
  const found = now - theirs - 500;
  ahead = Math.abs(found) < SURE_MS ? 0 : found;
}

/** A moment of the phone's as the gateway would have called it. */
export function deviceTime(at: number): string {
  return new Date(at - ahead).toISOString();
}

api.use({
  onResponse({ response }) {
    if (!response.headers.has("age")) learn(response.headers.get("date"));
  },
});
