// The alarms that stand, as this browser knows them: the feed's snapshot and every step since. Whoever draws them is told
// as often as that takes a fifth of the time, ten times a second at most and twice at least: in a flood the page stays
// quick, and on a slow machine too.
import { computed, nextTick, reactive, shallowRef } from "vue";

import type { Alarm, LoadNow, Transition } from "../api/types";
import { isNew } from "../alarms/order";
import { Feed, type LinkState } from "./feed";

export const DRAW_MS = { least: 100, most: 500 };
const SHARE = 5;

interface Snapshot {
  at: string;
  cut: boolean;
  load: LoadNow;
  alarms: Alarm[];
}

const alarms = new Map<string, Alarm>();

/** Counts up when ``standing()`` has changed; a computed that reads it is made anew then. */
export const version = shallowRef(0);

export const link = reactive({
  state: "connecting" as LinkState,
  /** When we last heard of the alarms: what is shown is as of then. */
  heardAt: null as number | null,
  /** More alarms stand than the gateway gives at once: only the worst are here. */
  cut: false,
});

export const load = shallowRef<LoadNow>({ alarms_10_min: 0, flood: null });

/** All alarms that are not normal. Read ``version`` to be told of changes. */
export function standing(): ReadonlyMap<string, Alarm> {
  return alarms;
}

export function alarmOf(id: string): Alarm | undefined {
  return alarms.get(id);
}

/** Steps that have just been seen, in order, for those who must react to each (the sound). */
type Watcher = (alarm: Alarm, before: Alarm | undefined) => void;
const watchers = new Set<Watcher>();

export function watchSteps(watcher: Watcher): () => void {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

let timer: ReturnType<typeof setTimeout> | undefined;
let drawnAt = Number.NEGATIVE_INFINITY;
let pause = DRAW_MS.least;

function changed(): void {
  if (timer !== undefined) return;
  const wait = Math.max(0, drawnAt + pause - performance.now());
  timer = setTimeout(() => {
    timer = undefined;
    const began = performance.now();
    version.value += 1;
    void nextTick(() => {
      drawnAt = performance.now();
      pause = Math.min(DRAW_MS.most, Math.max(DRAW_MS.least, SHARE * (drawnAt - began)));
    });
  }, wait);
}

function heard(): void {
  link.heardAt = Date.now();
}

/** Take in an alarm as the gateway just gave it; an older revision than the one we know changes nothing. */
export function take(alarm: Alarm): void {
  const before = alarms.get(alarm.alarm_id);
  if (before !== undefined && before.rev > alarm.rev) return;
  if (alarm.shadow) return; // a rule on trial: no operator is asked to look at it
  if (alarm.state === "NORM") alarms.delete(alarm.alarm_id);
  else alarms.set(alarm.alarm_id, alarm);
  for (const watcher of watchers) watcher(alarm, before);
  changed();
}

function takeSnapshot(text: string): void {
  const found = JSON.parse(text) as Snapshot;
  const before = new Map(alarms);
  alarms.clear();
  for (const alarm of found.alarms) if (!alarm.shadow) alarms.set(alarm.alarm_id, alarm);
  link.cut = found.cut;
  load.value = found.load;
  heard();
  for (const alarm of alarms.values()) {
    const known = before.get(alarm.alarm_id);
    if (known === undefined || known.rev < alarm.rev) for (const watcher of watchers) watcher(alarm, known);
  }
  pause = 0;
  changed();
}

let feed: Feed | null = null;

/** Begin to listen; `signedOut` is called when the session is over. */
export function listen(signedOut: () => void): void {
  feed?.close();
  feed = new Feed({
    snapshot: takeSnapshot,
    alarm(text) {
      heard();
      take((JSON.parse(text) as Transition).alarm);
    },
    load(text) {
      load.value = JSON.parse(text) as LoadNow;
    },
    link(state) {
      if (state === "live") heard();
      link.state = state;
    },
    signedOut,
  });
}

export function stopListening(): void {
  feed?.close();
  feed = null;
  alarms.clear();
  link.state = "connecting";
  link.heardAt = null;
  changed();
}

/** How many alarms of each state stand, and how many wait for an acknowledgement by level. */
export const counts = computed(() => {
  void version.value;
  const states: Record<string, number> = {};
  const waiting: Record<string, number> = { I: 0, II: 0, III: 0, IV: 0 };
  const levels: Record<string, number> = { I: 0, II: 0, III: 0, IV: 0 };
  for (const alarm of alarms.values()) {
    states[alarm.state] = (states[alarm.state] ?? 0) + 1;
    if (!alarm.annunciated) continue;
    levels[alarm.level] = (levels[alarm.level] ?? 0) + 1;
    if (isNew(alarm)) waiting[alarm.level] = (waiting[alarm.level] ?? 0) + 1;
  }
  return { states, waiting, levels, all: alarms.size };
});
