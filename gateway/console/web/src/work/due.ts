// By when somebody must respond to an alarm and resolve it, and what of the open work is the most urgent.
import type { Level } from "../api/types";
import type { Due, WorkItem, WorkState } from "./types";
import { UNDONE } from "./types";

export interface DueNow {
  readonly what: "respond" | "resolve";
  readonly at: string;
  /** Too late by now. */
  readonly over: boolean;
}

/** The time that runs: to respond until somebody has accepted, then to resolve until it is said to be done. */
export function dueNow(due: Due, work: WorkState, now: number): DueNow | null {
  if (!UNDONE.has(work)) return null;
  const waits = work === "DISPATCHED" || work === "REJECTED";
  const respond = waits ? due.respond_by : null;
  const next = (at: string, what: DueNow["what"]): DueNow => ({ what, at, over: Date.parse(at) < now });
  if (respond !== null && (due.resolve_by === null || Date.parse(due.resolve_by) >= now)) return next(respond, "respond");
  return due.resolve_by === null ? null : next(due.resolve_by, "resolve");
}

const RANK: Record<Level, number> = { I: 0, II: 1, III: 2, IV: 3 };

/** The worst first, of these the oldest. */
export function byUrgency(a: WorkItem, b: WorkItem): number {
  return RANK[a.alarm.level] - RANK[b.alarm.level] || since(a) - since(b) || (a.alarm.alarm_id < b.alarm.alarm_id ? -1 : 1);
}

function since(item: WorkItem): number {
  return Date.parse(item.alarm.active_at ?? item.alarm.order?.since ?? "") || 0;
}
