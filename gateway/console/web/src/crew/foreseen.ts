// What the work on an alarm will be once everything that waits has been told: a crew goes on without a network.
import type { WorkState } from "../work/types";
import type { Act, Entry } from "./store";

const AFTER: Record<Act["what"], WorkState | null> = {
  accept: "ACCEPTED", refuse: "REJECTED", "on-site": "ON_SITE", photo: null, done: "DONE",
};

export interface Foreseen {
  readonly work: WorkState;
  /** When the crew did what waits, by the state it leads to. */
  readonly waiting: ReadonlyMap<WorkState, number>;
  /** The first that the gateway would not do; nothing after it counts. */
  readonly refused: Entry | undefined;
}

/** ``entries``: those of the alarm, in their order. */
export function foresee(work: WorkState, entries: readonly Entry[]): Foreseen {
  const waiting = new Map<WorkState, number>();
  let now = work;
  for (const entry of entries) {
    if (entry.refused !== null) return { work: now, waiting, refused: entry };
    const next = AFTER[entry.act.what];
    if (next === null) continue;
    now = next;
    waiting.set(next, entry.at);
  }
  return { work: now, waiting, refused: undefined };
}

/** What the crew may do next. */
export function possible(work: WorkState): readonly Exclude<Act["what"], "photo">[] {
  switch (work) {
    case "DISPATCHED":
      return ["refuse", "accept"];
    case "ACCEPTED":
      return ["refuse", "done", "on-site"];
    case "ON_SITE":
      return ["done"];
    default:
      return [];
  }
}
