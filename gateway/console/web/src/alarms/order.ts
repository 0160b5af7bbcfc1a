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

function since(alarm: Alarm): string {
  return alarm.active_at ?? alarm.detected_at ?? "";
}

/** By level, state and age (the newest first), then by name, so that nothing ever swaps places without a reason. */
export function compare(a: Alarm, b: Alarm): number {
  const rank = urgency(a) - urgency(b);
  if (rank !== 0) return rank;
  const sinceA = since(a);
  const sinceB = since(b);
  if (sinceA !== sinceB) return sinceA < sinceB ? 1 : -1;
  return a.alarm_id < b.alarm_id ? -1 : a.alarm_id > b.alarm_id ? 1 : 0;
}

/**
 * The rows of a list. An alarm whose cause is in the list too hangs on it; a group stands where its most urgent member
 * would stand alone. ``unfolded``: ids of causes whose children are shown. A cause of a cause is followed to the top,
 * so that there are two depths and no more.
 */
export function rowsOf(alarms: Iterable<Alarm>, unfolded: ReadonlySet<string>): Row[] {
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
    const below = children.get(alarm.alarm_id) ?? [];
    let lead = alarm;
    for (const child of below) if (compare(child, lead) < 0) lead = child;
    return { alarm, below, lead };
  });
  keyed.sort((a, b) => compare(a.lead, b.lead));
  const rows: Row[] = [];
  for (const { alarm, below } of keyed) {
    const open = below.length > 0 && unfolded.has(alarm.alarm_id);
    const newChildren = below.reduce((sum, child) => sum + (isNew(child) ? 1 : 0), 0);
    rows.push({ alarm, depth: 0, children: below.length, unfolded: open, newChildren });
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
