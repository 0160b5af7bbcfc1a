// The crew page's memory: who this is, their work as it was last heard, what waits to be told. The phone's store comes
// first, so that the page is there at once and without a network; then the gateway is asked.
import { computed, reactive, shallowReactive } from "vue";

import { api, ask, Problem } from "../api/client";
import { newKey } from "../api/key";
import type { components } from "../api/schema";
import type { Alarm, Title } from "../api/types";
import { said, t, timeZone } from "../i18n";
import { session, signOut, type Who } from "../live/session";
import { loadSite, site } from "../live/site";
import { byUrgency } from "../work/due";
import type { Crew, WorkItem } from "../work/types";
import { foresee, type Foreseen } from "./foreseen";
import { Queue } from "./queue";
import { GatewaySender } from "./sender";
import { CrewStore, type Act, type Entry, type KeptDetail, type KeptPhoto } from "./store";

const EVERY_MS = 30_000; // a dispatch is also told by a message; this is for who has the page open
const CLOSED_FOR_MS = 24 * 3600_000;
const MOST = 200;

export const crew = shallowReactive({
  /** The store has been read. */
  ready: false,
  /** This browser keeps nothing. */
  forgetful: false,
  link: "unknown" as "unknown" | "here" | "lost",
  /** The session is over; what is shown is what the phone knows. */
  signIn: false,
  items: [] as WorkItem[],
  closed: [] as WorkItem[],
  /** When ``items`` were heard. */
  heardAt: null as number | null,
  entries: [] as Entry[],
});

/** Short words at the bottom, for a moment. */
export const notice = reactive({ text: "", bad: false });

export const sorted = computed(() => [...crew.items].sort(byUrgency));
export const refusals = computed(() => crew.entries.filter((entry) => entry.refused !== null));

export function entriesOf(alarm: string): Entry[] {
  return crew.entries.filter((entry) => entry.alarm === alarm);
}

export function foreseenOf(item: { alarm: Alarm }): Foreseen {
  return foresee(item.alarm.work, entriesOf(item.alarm.alarm_id));
}

export function itemOf(alarm: string): WorkItem | undefined {
  return [...crew.items, ...crew.closed].find((item) => item.alarm.alarm_id === alarm);
}

// ----------------------------------------------------------------------------------------------------- the person

const STORED = "citywatch.crew";

interface Remembered {
  who: Who;
  site: { name: Title; timezone: string };
}

let store: CrewStore | null = null;
let queue: Queue | null = null;
let user: string | null = null;

export async function begin(): Promise<void> {
  try {
    store = await CrewStore.open();
  } catch {
    crew.forgetful = true;
  }
  const known = remembered();
  if (known !== null) {
    session.who = known.who;
    site.name = known.site.name;
    timeZone.value = known.site.timezone;
    await become(known.who.name);
  }
  crew.ready = true;
  addEventListener("online", back);
  addEventListener("offline", () => (crew.link = "lost"));
  document.addEventListener("visibilitychange", back);
  setInterval(() => {
    if (document.visibilityState === "visible") void refresh();
  }, EVERY_MS);
  await refresh();
}

function back(): void {
  if (document.visibilityState === "visible") void refresh().then(() => queue?.wake());
}

/** From here on it is ``name`` who does things: their work, their queue. */
async function become(name: string): Promise<void> {
  if (name === user) return;
  queue?.close();
  user = name;
  if (store === null) return;
  queue = new Queue(name, store, new GatewaySender(store), {
    changed: () => void reread(),
    told,
    signedOut: () => void check(),
  });
  const list = await store.list(name);
  crew.items = list?.items ?? [];
  crew.closed = list?.closed ?? [];
  crew.heardAt = list?.at ?? null;
  await reread();
}

/** Is the gateway there, and who does it say that we are? True when both are as the page needs them. */
async function check(): Promise<boolean> {
  try {
    const who = await ask(api.GET("/api/v1/session", { signal: AbortSignal.timeout(15_000) }));
    crew.link = "here";
    session.who = who;
    crew.signIn = false;
    await become(who.name);
    if (site.ways === null) await loadSite();
    remember({ who, site: { name: { ...site.name }, timezone: timeZone.value } });
    return !who.must_change;
  } catch (problem) {
    if (problem instanceof Problem && problem.status === 401) {
      crew.link = "here";
      crew.signIn = true;
      if (site.ways === null) await loadSite().catch(() => undefined);
    } else crew.link = "lost";
    return false;
  } finally {
    session.known = true;
  }
}

export async function entered(): Promise<void> {
  await refresh();
  queue?.wake();
}

/** Nobody reads this person's work here any more; what they did and could not tell waits until they come back. */
export async function leave(): Promise<void> {
  await signOut().catch(() => undefined);
  if (store !== null && user !== null) await store.forgetWork(user);
  queue?.close();
  queue = null;
  user = null;
  Object.assign(crew, { items: [], closed: [], heardAt: null, entries: [], signIn: true });
  try {
    localStorage.removeItem(STORED);
  } catch {
    // a browser without storage remembers nothing
  }
}

// ----------------------------------------------------------------------------------------------------- their work

let refreshing: Promise<void> | null = null;

/** Ask for the work, and for the details of what has changed, so that they can be read later without a network. */
export async function refresh(): Promise<void> {
  refreshing ??= fetchWork().finally(() => {
    refreshing = null;
  });
  await refreshing;
}

async function fetchWork(): Promise<void> {
  if (!(await check())) return;
  const since = new Date(Date.now() - CLOSED_FOR_MS).toISOString();
  try {
    const [open, closed] = await Promise.all([
      ask(api.GET("/api/v1/work", { params: { query: { mine: true, limit: MOST } } })),
      ask(api.GET("/api/v1/work", { params: { query: { mine: true, state: ["CLOSED"], since, limit: 30 } } })),
    ]);
    crew.items = open.items;
    crew.closed = closed.items;
    crew.heardAt = Date.now();
    if (store === null || user === null) return;
    await store.keepList({ user, at: crew.heardAt, items: open.items, closed: closed.items });
    const all = [...open.items, ...closed.items].map((item) => item.alarm);
    await store.forgetOthers(user, new Set([...all.map((alarm) => alarm.alarm_id), ...crew.entries.map((entry) => entry.alarm)]));
    for (const alarm of all) {
      const kept = await store.detail(user, alarm.alarm_id);
      if (kept?.detail.alarm.rev !== alarm.rev) await detail(alarm.alarm_id);
    }
  } catch (problem) {
    failed(problem);
  }
}

export async function keptDetail(alarm: string): Promise<KeptDetail | undefined> {
  return store === null || user === null ? undefined : await store.detail(user, alarm);
}

/** One order as the gateway has it now. Raises the Problem. */
export async function detail(alarm: string): Promise<KeptDetail> {
  const mine = user ?? "";
  const found = await ask(api.GET("/api/v1/work/{alarm_id}", { params: { path: { alarm_id: alarm } } }));
  const kept = { user: mine, alarm, detail: found, names: await namesFor(found.alarm) };
  if (store !== null && mine === user) await store.keepDetail(kept);
  return kept;
}

let names: components["schemas"]["NamesView"] | null = null;
let crews: Crew[] | null = null;

/** What people call what is named in an alarm's order: its kind and points, a value that is a word, whom it was given to. */
async function namesFor(alarm: Alarm): Promise<Record<string, Title>> {
  names ??= await ask(api.GET("/api/v1/names"));
  crews ??= await ask(api.GET("/api/v1/crews"));
  const found: Record<string, Title> = {};
  const to = crews.find((one) => one.name === alarm.order?.to);
  if (to !== undefined) found[`to ${to.name}`] = to.title;
  if (typeof alarm.value === "string") {
    const state = Object.values(names.states).find((values) => Object.hasOwn(values, String(alarm.value)));
    if (state !== undefined) found[`value ${alarm.value}`] = state[alarm.value]!;
  }
  const kind = names.kinds[alarm.kind];
  if (kind !== undefined) found[alarm.kind] = kind;
  for (const point of alarm.order?.waits_for ?? []) {
    const plain = point.replace(/^p\d{1,2}_/, "pN_");
    const title = names.points_of_kind[alarm.kind]?.[plain] ?? names.points[plain];
    if (title !== undefined) found[point] = title;
  }
  return found;
}

export function failed(problem: unknown): void {
  if (problem instanceof Problem && problem.status === 401) crew.signIn = true;
  else if (problem instanceof Problem && problem.status !== 0) notify(said(problem.titles), true);
  else crew.link = "lost";
}

// ----------------------------------------------------------------------------------------------------- what they do

/** Keep what the crew has just done; it is told when it can be. */
export async function act(item: WorkItem, ...acts: Act[]): Promise<void> {
  const at = Date.now();
  const about = item.place?.name ?? item.alarm.asset;
  void navigator.storage?.persist?.(); // so that a full phone does not throw it away
  if (queue === null) throw new Error("nothing can be kept here");
  await queue.add(item.alarm.alarm_id, about, acts.map((one) => ({ act: one, key: newKey(), at })));
}

export async function retry(entry: Entry): Promise<void> {
  await queue?.retry(entry);
}

export async function drop(entry: Entry): Promise<void> {
  await queue?.drop(entry);
}

export function wake(): void {
  queue?.wake();
}

async function reread(): Promise<void> {
  if (store !== null && user !== null) crew.entries = await store.entries(user);
}

function told(entry: Entry, alarm: Alarm | null): void {
  crew.link = "here";
  if (alarm === null) return;
  notify(t(`crew.told_${entry.act.what}`));
  crew.items = crew.items.map((item) => (item.alarm.alarm_id === alarm.alarm_id ? { ...item, alarm } : item));
  if (user !== null && store !== null) {
    const kept = { user, at: crew.heardAt ?? Date.now(), items: crew.items, closed: crew.closed };
    void store.keepList(kept).then(() => detail(entry.alarm)).catch(failed);
  }
}

// ----------------------------------------------------------------------------------------------------- photos, drafts

export async function keepPhoto(alarm: string, picture: Blob): Promise<string> {
  const id = newKey();
  if (store === null || user === null) throw new Error("nothing can be kept here");
  await store.keepPhoto({ id, user, alarm, bytes: await picture.arrayBuffer(), type: picture.type || "image/jpeg", sent: null });
  return id;
}

export async function photo(id: string): Promise<KeptPhoto | undefined> {
  return await store?.photo(id);
}

export async function forgetPhoto(id: string): Promise<void> {
  await store?.forgetPhoto(id);
}

export interface Form {
  cause: string;
  other: string;
  action: string;
  byPerson: boolean;
  photos: string[];
}

export async function draft(alarm: string): Promise<Form | undefined> {
  const found = user === null ? undefined : await store?.draft(user, alarm);
  return found === undefined ? undefined : { cause: found.cause, other: found.other, action: found.action, byPerson: found.byPerson, photos: [...found.photos] };
}

export async function keepDraft(alarm: string, form: Form): Promise<void> {
  if (user !== null) await store?.keepDraft({ user, alarm, ...form, photos: [...form.photos] });
}

// ----------------------------------------------------------------------------------------------------- small things

let gone: ReturnType<typeof setTimeout> | undefined;

export function notify(text: string, bad = false): void {
  notice.text = text;
  notice.bad = bad;
  clearTimeout(gone);
  gone = setTimeout(() => (notice.text = ""), bad ? 8000 : 3000);
}

function remember(what: Remembered): void {
  try {
    localStorage.setItem(STORED, JSON.stringify(what));
  } catch {
    // a browser without storage remembers nothing
  }
}

function remembered(): Remembered | null {
  try {
    const found = JSON.parse(localStorage.getItem(STORED) ?? "null") as Remembered | null;
    return typeof found?.who?.name === "string" && typeof found.site?.timezone === "string" ? found : null;
  } catch {
    return null;
  }
}
