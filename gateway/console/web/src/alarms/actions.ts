// What a person may do to alarms, to one or to many; and what became of it.
import { api, ask, Problem } from "../api/client";
import { newKey } from "../api/key";
import type { Alarm, StateName } from "../api/types";
import { may, type Role } from "../live/session";
import { alarmOf, take } from "../live/standing";
import { rowsOf } from "./order";

export type ActionName =
  | "acknowledge" | "unacknowledge" | "shelve" | "unshelve" | "out-of-service" | "in-service" | "reset" | "silence"
  | "confirm" | "force-clear" | "comment" | "assign" | "dispatch" | "verify" | "return" | "close";

export interface Action {
  readonly name: ActionName;
  readonly role: Role;
  /** One key, as keyboards give it. */
  readonly key?: string;
  /** Is it something to offer for this alarm? The gateway decides in the end. */
  readonly fits: (alarm: Alarm) => boolean;
  /** Must words be given? Then a form is shown; else it is done at once. */
  readonly asks: boolean;
  /** About the work on it: offered where that is shown. */
  readonly ofWork?: boolean;
}

const waiting: ReadonlySet<StateName> = new Set(["UNACK", "RTNUN"]);

export const ACTIONS: readonly Action[] = [
  { name: "acknowledge", role: "operator", key: "a", asks: false, fits: (alarm) => !alarm.acked && alarm.state !== "NORM" },
  { name: "shelve", role: "operator", key: "s", asks: true, fits: (alarm) => alarm.shelve === "UNSHELVED" },
  { name: "unshelve", role: "operator", key: "u", asks: false, fits: (alarm) => alarm.shelve !== "UNSHELVED" },
  { name: "comment", role: "operator", key: "c", asks: true, fits: () => true },
  { name: "assign", role: "operator", key: "g", asks: true, fits: (alarm) => alarm.state !== "NORM" },
  { name: "dispatch", role: "operator", key: "d", asks: true, ofWork: true, fits: (alarm) => !alarm.shadow },
  { name: "reset", role: "operator", key: "r", asks: false, fits: (alarm) => alarm.latched && alarm.condition === "NORMAL" },
  { name: "unacknowledge", role: "operator", asks: true, fits: (alarm) => alarm.acked && alarm.active },
  { name: "silence", role: "operator", asks: false, fits: (alarm) => waiting.has(alarm.state) && !alarm.silenced },
  { name: "out-of-service", role: "maintainer", key: "o", asks: true, fits: (alarm) => alarm.out_of_service === null },
  { name: "in-service", role: "maintainer", asks: false, fits: (alarm) => alarm.out_of_service !== null },
  { name: "confirm", role: "supervisor", asks: true, fits: (alarm) => !alarm.active && !alarm.confirmed },
  { name: "force-clear", role: "supervisor", asks: true, fits: (alarm) => alarm.active },
  { name: "verify", role: "supervisor", asks: true, ofWork: true, fits: (alarm) => alarm.work === "DONE" || alarm.work === "VERIFYING" },
  { name: "return", role: "supervisor", asks: true, ofWork: true, fits: (alarm) => alarm.work === "DONE" || alarm.work === "VERIFYING" },
  { name: "close", role: "operator", asks: true, ofWork: true, fits: (alarm) => alarm.work !== "NONE" && alarm.work !== "CLOSED" },
];

export function actionOf(name: ActionName): Action {
  const found = ACTIONS.find((action) => action.name === name);
  if (found === undefined) throw new Error(`no action ${name}`);
  return found;
}

/** The actions to offer: allowed to who sits here, and fitting at least one of the alarms. */
export function offered(alarms: readonly Alarm[]): Action[] {
  return ACTIONS.filter((action) => may(roleFor(action, alarms)) && alarms.some(action.fits));
}

function roleFor(action: Action, alarms: readonly Alarm[]): Role {
  return action.name === "shelve" && alarms.some((alarm) => alarm.level === "I") ? "supervisor" : action.role;
}

/** What the form of an action has gathered; each action takes what it knows. */
export interface Given {
  comment?: string;
  seconds?: number | null;
  once?: boolean;
  work?: string;
  to?: string;
  causeCode?: string;
}

export interface Changed {
  readonly before: Alarm;
  /** As the gateway has it now; undefined when it is normal and gone. */
  readonly now: Alarm | undefined;
}

export interface Outcome {
  done: number;
  /** Somebody, or something, was faster: nothing was done to these. */
  changed: Changed[];
  failed: { alarm: Alarm; problem: unknown }[];
}

const AT_ONCE = 6; // requests under way; browsers open no more connections to one host

/** Do it to all of them; `progress` is told how many are through. */
export async function act(
  name: ActionName, alarms: readonly Alarm[], given: Given, progress: (through: number) => void = () => {},
): Promise<Outcome> {
  const outcome: Outcome = { done: 0, changed: [], failed: [] };
  const queue = [...alarms];
  let through = 0;
  const worker = async (): Promise<void> => {
    for (let alarm = queue.shift(); alarm !== undefined; alarm = queue.shift()) {
      try {
        take(await post(name, alarm, given));
        outcome.done += 1;
      } catch (problem) {
        if (problem instanceof Problem && problem.code === "stale_rev") {
          outcome.changed.push({ before: alarm, now: await fetched(alarm.alarm_id) });
        } else outcome.failed.push({ alarm, problem });
      }
      through += 1;
      progress(through);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, queue.length) }, worker));
  return outcome;
}

/** An alarm with all that hangs on it, as far as the action fits. */
export function withChildren(alarm: Alarm, all: Iterable<Alarm>): Alarm[] {
  const rows = rowsOf([...all], new Set([alarm.alarm_id]));
  const first = rows.findIndex((row) => row.alarm.alarm_id === alarm.alarm_id && row.depth === 0);
  if (first < 0) return [alarm];
  return rows.slice(first, first + 1 + (rows[first]?.children ?? 0)).map((row) => row.alarm);
}

/** The body of a request; the shapes are the API's. */
export function bodyOf(name: ActionName, rev: number, given: Given): Record<string, unknown> {
  const comment = given.comment?.trim() ?? "";
  switch (name) {
    case "shelve":
      return { rev, reason: comment, once: given.once ?? false, ...(given.seconds ? { seconds: given.seconds } : {}) };
    case "out-of-service":
      return { rev, reason: comment, work: given.work?.trim() ?? "" };
    case "return":
    case "close":
      return { rev, reason: comment };
    case "dispatch":
    case "assign":
      return { rev, to: given.to?.trim() ?? "", ...(comment === "" ? {} : { comment }) };
    case "confirm":
      return { rev, comment, cause_code: given.causeCode?.trim() ?? "" };
    default:
      return comment === "" ? { rev } : { rev, comment };
  }
}

async function post(name: ActionName, alarm: Alarm, given: Given): Promise<Alarm> {
  const known = alarmOf(alarm.alarm_id) ?? alarm;
  // What we saw must be what we act on: the revision is that of the row the person looked at.
  const rev = known.occurrence_id === alarm.occurrence_id && known.state === alarm.state ? known.rev : alarm.rev;
  const done = await ask(
    api.POST(`/api/v1/alarms/{alarm_id}/${name}` as "/api/v1/alarms/{alarm_id}/acknowledge", {
      params: { path: { alarm_id: alarm.alarm_id }, header: { "idempotency-key": newKey() } },
      body: bodyOf(name, rev, given) as never,
    }),
  );
  return done.alarm;
}

async function fetched(alarmId: string): Promise<Alarm | undefined> {
  try {
    const alarm = await ask(api.GET("/api/v1/alarms/{alarm_id}", { params: { path: { alarm_id: alarmId } } }));
    take(alarm);
    return alarm.state === "NORM" ? undefined : alarm;
  } catch {
    return undefined;
  }
}
