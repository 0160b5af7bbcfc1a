// The sound of the operations centre: a pattern per level that repeats while a new alarm of that level waits. It ends
// when the last one is acknowledged; the silence button ends it for those that wait now, and the next one sounds again.
import { reactive } from "vue";

import type { Alarm, Level } from "../api/types";
import { isNew } from "../alarms/order";
import { standing, watchSteps } from "./standing";

/** Hertz, seconds each note, notes, seconds until it repeats: the worse, the higher, faster and more often. */
export const PATTERNS: Record<Level, { notes: readonly number[]; noteS: number; everyS: number }> = {
  I: { notes: [988, 740, 988, 740, 988, 740], noteS: 0.14, everyS: 2 },
  II: { notes: [784, 622, 784, 622], noteS: 0.18, everyS: 5 },
  III: { notes: [587, 494], noteS: 0.22, everyS: 15 },
  IV: { notes: [440], noteS: 0.25, everyS: 60 },
};

const STORED = "citywatch.sound";
const ORDER: readonly Level[] = ["I", "II", "III", "IV"];

export const sound = reactive({
  /** The person wants sound at all. */
  on: stored(),
  /** The browser lets us: it wants a click or a key first. */
  allowed: false,
  /** The level that sounds now. */
  sounding: null as Level | null,
});

const silenced = new Set<string>(); // occurrences that somebody here has heard

let context: AudioContext | null = null;
let timer: ReturnType<typeof setTimeout> | undefined;

/** What would sound: new, not silenced here nor at the gateway. */
export function sounds(alarm: Alarm, heard: ReadonlySet<string>): boolean {
  return alarm.annunciated && isNew(alarm) && alarm.state === "UNACK" && !alarm.silenced && !heard.has(occurrence(alarm));
}

export function worst(alarms: Iterable<Alarm>, heard: ReadonlySet<string>): Level | null {
  let found: Level | null = null;
  for (const alarm of alarms) {
    if (!sounds(alarm, heard)) continue;
    if (outranks(alarm.level, found)) found = alarm.level;
    if (found === "I") break;
  }
  return found;
}

/** No more sound for what waits now. */
export function silence(): void {
  for (const alarm of standing().values()) if (sounds(alarm, silenced)) silenced.add(occurrence(alarm));
  stop();
}

export function setSound(on: boolean): void {
  sound.on = on;
  try {
    localStorage.setItem(STORED, on ? "on" : "off");
  } catch {
    // a browser without storage forgets
  }
  if (on) void allow();
  else stop();
}

/** To be called from a click or a key: browsers play nothing before one. */
export async function allow(): Promise<void> {
  context ??= new AudioContext();
  await context.resume();
  sound.allowed = context.state === "running";
  if (timer === undefined) play();
}

/** Watch the alarms until the returned function is called. */
export function watchSound(): () => void {
  const unwatch = watchSteps((alarm, before) => {
    if (before !== undefined && before.occurrence_id !== alarm.occurrence_id) silenced.delete(occurrence(before));
    if (sounds(alarm, silenced) && outranks(alarm.level, sound.sounding)) {
      clearTimeout(timer); // a worse one does not wait until the pattern of the present one comes round
      timer = setTimeout(play, 0);
    } else if (sound.sounding !== null && !isNew(alarm)) sound.sounding = worst(standing().values(), silenced);
  });
  return () => {
    unwatch();
    stop();
  };
}

/** Must a new alarm of this level be heard now, while that of another sounds (null: none does)? */
export function outranks(level: Level, sounding: Level | null): boolean {
  return sounding === null || ORDER.indexOf(level) < ORDER.indexOf(sounding);
}

function occurrence(alarm: Alarm): string {
  return `${alarm.alarm_id} ${alarm.occurrence_id} ${alarm.level} ${alarm.realarm_count}`;
}

function play(): void {
  timer = undefined;
  const level = sound.on ? worst(standing().values(), silenced) : null;
  sound.sounding = level;
  if (level === null) return;
  const pattern = PATTERNS[level];
  if (context !== null && context.state === "running") beep(context, pattern.notes, pattern.noteS);
  timer = setTimeout(play, pattern.everyS * 1000);
}

function beep(audio: AudioContext, notes: readonly number[], noteS: number): void {
  let at = audio.currentTime + 0.02;
  for (const note of notes) {
    const tone = audio.createOscillator();
    const volume = audio.createGain();
    tone.type = "triangle";
    tone.frequency.value = note;
    volume.gain.setValueAtTime(0, at);
    volume.gain.linearRampToValueAtTime(0.35, at + 0.02);
    volume.gain.linearRampToValueAtTime(0, at + noteS);
    tone.connect(volume).connect(audio.destination);
    tone.start(at);
    tone.stop(at + noteS);
    at += noteS;
  }
}

function stop(): void {
  clearTimeout(timer);
  timer = undefined;
  sound.sounding = null;
}

function stored(): boolean {
  try {
    return localStorage.getItem(STORED) !== "off";
  } catch {
    return true;
  }
}
