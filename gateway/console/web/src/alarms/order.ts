// What stands where in the alarm list: the most urgent first, and what hangs on a cause folded beneath it.
import type { Alarm, Level, StateName } from "../api/types";

/** One line of the list. ``children``: how many alarms hang on this one (those that pass the filter). */
export interface Row {
  readonly alarm: Alarm;
  readonly depth: 0 | 1;
  readonly children: number;
  readonly unfolded: boolean;
  /** Unacknowledged alarms among the children. */
  readonly newChildren: number;
}

export const LEVELS: readonly Level[] = ["I", "II", "III", "IV"];
const LEVEL_RANK: Record<Level, number> = { I: 1, II: 2, III: 3, IV: 4 };

/** In the order in which they want to be looked at. */
export const STATES: readonly StateName[] = ["UNACK", "RTNUN", "ACKED", "SHLVD", "OOSRV", "DSUPR"];
const STATE_RANK: Record<StateName, number> = { UNACK: 0, RTNUN: 1, ACKED: 2, SHLVD: 3, OOSRV: 4, DSUPR: 5, NORM: 9 };

/** States in which an alarm asks for nobody: shown on demand. */
export const QUIET: ReadonlySet<StateName> = new Set(["SHLVD", "OOSRV", "DSUPR"]);

/** Does it wait for an acknowledgement? */
export function isNew(alarm: Alarm): boolean {
  return alarm.state === "UNACK" || alarm.state === "RTNUN";
}

/** Smaller is more urgent: what asks for somebody before what does not, then level, then state. */
export function urgency(alarm: Alarm): number {
  return (QUIET.has(alarm.state) ? 100 : 0) + LEVEL_RANK[alarm.level] * 10 + STATE_RANK[alarm.state];
}

interface Rank {
  readonly urgency: number;
  readonly since: number;
  readonly id: string;
  /** Its row when it stands alone: the same one each time, so that what has not changed is not drawn anew. */
  readonly row: Row;
}

// Found once an alarm as it is now, not once a comparison: 20,000 alarms are compared 300,000 times.
const known = new WeakMap<Alarm, Rank>();

function rankOf(alarm: Alarm): Rank {
  let found = known.get(alarm);
  if (found === undefined) {
    found = {
      urgency: urgency(alarm),
      since: Date.parse(alarm.active_at ?? alarm.detected_at ?? "") || 0,
      id: alarm.alarm_id,
      row: { alarm, depth: 0, children: 0, unfolded: false, newChildren: 0 },
    };
    known.set(alarm, found);
  }
  return found;
}

function before(a: Rank, b: Rank): number {
  return a.urgency - b.urgency || b.since - a.since || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}

/** By level, state and age (the newest first), then by name, so that nothing ever swaps places without a reason. */
export function compare(a: Alarm, b: Alarm): number {
  return before(rankOf(a), rankOf(b));
}

/**
 * The rows of a list. An alarm whose cause is in the list too hangs on it; a group stands where its most urgent member
 * would stand alone. ``unfolded``: ids of causes whose children are shown. A cause of a cause is followed to the top,
 * so that there are two depths and no more.
 */
export function rowsOf(alarms: readonly Alarm[], unfolded: ReadonlySet<string>): Row[] {
  if (!alarms.some((alarm) => alarm.parent_alarm_id !== null)) return alarms.map(rankOf).sort(before).map((one) => one.row);
  const listed = new Map<string, Alarm>();
  for (const alarm of alarms) listed.set(alarm.alarm_id, alarm);
  const children = new Map<string, Alarm[]>();
  const tops: Alarm[] = [];
  for (const alarm of listed.values()) {
    const top = topOf(alarm, listed);
    if (top === alarm) tops.push(alarm);
    else {
      const siblings = children.get(top.alarm_id);
      if (siblings === undefined) children.set(top.alarm_id, [alarm]);
      else siblings.push(alarm);
    }
  }
  const keyed = tops.map((alarm) => {
    const below = children.get(alarm.alarm_id);
    const own = rankOf(alarm);
    let lead = own;
    for (const child of below ?? []) if (before(rankOf(child), lead) < 0) lead = rankOf(child);
    return { own, below, lead };
  });
  keyed.sort((a, b) => before(a.lead, b.lead));
  const rows: Row[] = [];
  for (const { own, below } of keyed) {
    if (below === undefined) {
      rows.push(own.row);
      continue;
    }
    const open = unfolded.has(own.id);
    const newChildren = below.reduce((sum, child) => sum + (isNew(child) ? 1 : 0), 0);
    rows.push({ alarm: own.row.alarm, depth: 0, children: below.length, unfolded: open, newChildren });
    if (open) {
      below.sort(compare);
      for (const child of below) rows.push({ alarm: child, depth: 1, children: 0, unfolded: false, newChildren: 0 });
    }
  }
  return rows;
}

/** The cause of the causes; in a circle, which the engine never makes, the first that comes again. */
function topOf(alarm: Alarm, listed: ReadonlyMap<string, Alarm>): Alarm {
  if (alarm.parent_alarm_id === null) return alarm;
  const passed = new Set<Alarm>();
  let top = alarm;
  while (!passed.has(top)) {
    passed.add(top);
    const parent = top.parent_alarm_id === null ? undefined : listed.get(top.parent_alarm_id);
    if (parent === undefined) return top;
    top = parent;
  }
  return top;
}
