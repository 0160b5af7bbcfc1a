import "fake-indexeddb/auto";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import type { Act, Entry } from "./store";
import { CrewStore } from "./store";
import { Queue, RETRY_MS, type Outcome, type QueueListener, type Sender } from "./queue";

const DONE: Outcome = { kind: "done", alarm: null };
const LATER: Outcome = { kind: "later", everything: true };
const REFUSED: Outcome = { kind: "refused", refusal: { status: 409, titles: { zh: "不允许", en: "not allowed" }, detail: "CLOSED" } };

/** A gateway that writes down what it is told; ``answer`` says what it says. */
class Gateway implements Sender {
  readonly told: string[] = [];
  readonly keys: string[] = [];
  user: string | null = "wang";
  away = false;
  answer: (entry: Entry) => Outcome = () => DONE;

  async who(): Promise<string | null> {
    if (this.away) throw new Error("no network");
    return this.user;
  }

  async send(entry: Entry): Promise<Outcome> {
    if (this.away) return LATER;
    const outcome = this.answer(entry);
    this.keys.push(entry.key);
    if (outcome.kind !== "later") this.told.push(`${entry.alarm} ${entry.act.what}${outcome.kind === "refused" ? " refused" : ""}`);
    return outcome;
  }
}

let n = 0;
let name = "";
let store: CrewStore;
let gateway: Gateway;
let queues: Queue[] = [];
let signedOut = 0;
const listener: QueueListener = { changed: () => undefined, told: () => undefined, signedOut: () => (signedOut += 1) };

const queueOf = (user = "wang"): Queue => {
  const queue = new Queue(user, store, gateway, listener, async (work) => await work());
  queues.push(queue);
  return queue;
};
const doing = (act: Act): { act: Act; key: string; at: number } => ({ act, key: `key-${(n += 1)}`, at: 1_000 + n });
const accept = (): ReturnType<typeof doing> => doing({ what: "accept" });
const onSite = (): ReturnType<typeof doing> => doing({ what: "on-site" });
const done = (...photos: string[]): ReturnType<typeof doing> => doing({ what: "done", cause_code: "fuse", action: "a new one", by_person: false, photos });
const waiting = async (user = "wang"): Promise<string[]> => (await store.entries(user)).map((entry) => `${entry.alarm} ${entry.act.what}`);
/** The phone is restarted: what is in memory is gone. */
const restart = async (): Promise<void> => {
  queues.forEach((queue) => queue.close());
  store.close();
  store = await CrewStore.open(name);
};

beforeEach(async () => {
  name = `crew-${(n += 1)}`;
  store = await CrewStore.open(name);
  gateway = new Gateway();
  signedOut = 0;
});
afterEach(() => {
  vi.useRealTimers();
  queues.forEach((queue) => queue.close());
  queues = [];
  store.close();
});

describe("what a crew did", () => {
  it("is told in their own order, also of several alarms", async () => {
    gateway.away = true;
    const queue = queueOf();
    await queue.add("a/x", "A", [accept()]);
    await queue.add("b/x", "B", [accept()]);
    await queue.add("a/x", "A", [onSite()]);
    await queue.add("a/x", "A", [done()]);
    await queue.run();
    expect(gateway.told).toEqual([]);
    gateway.away = false;
    await queue.run();
    expect(gateway.told).toEqual(["a/x accept", "b/x accept", "a/x on-site", "a/x done"]);
    expect(await waiting()).toEqual([]);
  });

  it("survives a restart with its keys and times, and is told once", async () => {
    gateway.away = true;
    const queue = queueOf();
    const first = accept();
    await queue.add("a/x", "A", [first]);
    await queue.add("a/x", "A", [onSite()]);
    const before = await store.entries("wang");
    await restart();
    expect(await store.entries("wang")).toEqual(before);
    expect(before[0]).toMatchObject({ key: first.key, at: first.at, about: "A" });
    gateway.away = false;
    await queueOf().run();
    expect(gateway.keys).toEqual(before.map((entry) => entry.key));
  });

  it("keeps its key when the answer was lost on the way", async () => {
    let lost = 1;
    gateway.answer = () => (lost-- > 0 ? LATER : DONE);
    const queue = queueOf();
    const one = accept();
    await queue.add("a/x", "A", [one]);
    await queue.run();
    await queue.run();
    expect(gateway.keys).toEqual([one.key, one.key]);
  });

  it("waits for its person: another one tells nothing of it, and signing in again goes on", async () => {
    gateway.user = null;
    const queue = queueOf();
    await queue.add("a/x", "A", [accept()]);
    await queue.run();
    expect(signedOut).toBeGreaterThan(0);
    gateway.user = "li";
    await queueOf("li").run();
    await queue.run();
    expect(gateway.told).toEqual([]);
    gateway.user = "wang";
    await queue.run();
    expect(gateway.told).toEqual(["a/x accept"]);
  });

  it("stops where the session ends and leaves everything as it is", async () => {
    gateway.answer = (entry) => (entry.act.what === "on-site" ? { kind: "signed out" } : DONE);
    const queue = queueOf();
    await queue.add("a/x", "A", [accept(), onSite(), done()]);
    await queue.run();
    expect(signedOut).toBeGreaterThan(0);
    expect(await waiting()).toEqual(["a/x on-site", "a/x done"]);
  });
});

describe("what the gateway refuses", () => {
  it("holds back what came later at the same alarm, and nothing else", async () => {
    gateway.answer = (entry) => (entry.alarm === "a/x" && entry.act.what === "accept" ? REFUSED : DONE);
    const queue = queueOf();
    gateway.away = true;
    await queue.add("a/x", "A", [accept()]);
    await queue.add("a/x", "A", [onSite()]);
    await queue.add("b/x", "B", [accept()]);
    gateway.away = false;
    await queue.run();
    expect(gateway.told).toEqual(["a/x accept refused", "b/x accept"]);
    const [held] = await store.entries("wang");
    expect(held?.refused).toMatchObject({ status: 409, detail: "CLOSED" });
    await restart();
    await queueOf().run();
    expect(gateway.told.length).toBe(2);
  });

  it("is tried again under a new key, as the old one has its answer for ever", async () => {
    gateway.answer = () => REFUSED;
    const queue = queueOf();
    await queue.add("a/x", "A", [accept(), onSite()]);
    await queue.run();
    const [held] = await store.entries("wang");
    gateway.answer = () => DONE;
    await queue.retry(held!);
    await queue.run();
    expect(gateway.told).toEqual(["a/x accept refused", "a/x accept", "a/x on-site"]);
    expect(gateway.keys[1]).not.toBe(gateway.keys[0]);
  });

  it("can be dropped, and the rest goes on", async () => {
    gateway.answer = (entry) => (entry.act.what === "accept" ? REFUSED : DONE);
    const queue = queueOf();
    await queue.add("a/x", "A", [accept(), onSite()]);
    await queue.run();
    await queue.drop((await store.entries("wang"))[0]!);
    await queue.run();
    expect(gateway.told).toEqual(["a/x accept refused", "a/x on-site"]);
  });
});

describe("photos", () => {
  const keep = (id: string): Promise<void> =>
    store.keepPhoto({ id, user: "wang", alarm: "a/x", bytes: new Uint8Array([255, 216, 255]).buffer, type: "image/jpeg", sent: null });

  it("are told before the `done` that names them, and forgotten after it", async () => {
    await keep("p1");
    await keep("p2");
    gateway.away = true;
    const queue = queueOf();
    await store.keepDraft({ user: "wang", alarm: "a/x", cause: "fuse", other: "", action: "", byPerson: false, photos: ["p1", "p2"] });
    await queue.add("a/x", "A", [doing({ what: "photo", photo: "p1" }), doing({ what: "photo", photo: "p2" }), done("p1", "p2")]);
    expect(await store.draft("wang", "a/x")).toBeUndefined();
    await restart();
    expect(new Uint8Array((await store.photo("p1"))!.bytes)).toEqual(new Uint8Array([255, 216, 255]));
    gateway.away = false;
    gateway.answer = (entry) => {
      if (entry.act.what === "photo") void store.photo(entry.act.photo).then((photo) => store.keepPhoto({ ...photo!, sent: "f".repeat(64) }));
      return DONE;
    };
    await queueOf().run();
    expect(gateway.told).toEqual(["a/x photo", "a/x photo", "a/x done"]);
    expect(await store.photo("p1")).toBeUndefined();
  });

  it("one that is refused holds the `done` back until it is dropped", async () => {
    await keep("p1");
    gateway.answer = (entry) => (entry.act.what === "photo" ? REFUSED : DONE);
    const queue = queueOf();
    await queue.add("a/x", "A", [doing({ what: "photo", photo: "p1" }), done("p1")]);
    await queue.run();
    expect(gateway.told).toEqual(["a/x photo refused"]);
    await queue.drop((await store.entries("wang"))[0]!);
    await queue.run();
    expect(gateway.told).toEqual(["a/x photo refused", "a/x done"]);
    expect(await store.photo("p1")).toBeUndefined();
  });
});

describe("without a way", () => {
  it("it is tried again, more slowly each time, and at once when somebody wakes it", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
    vi.spyOn(Math, "random").mockReturnValue(0);
    gateway.answer = () => LATER;
    const queue = queueOf();
    await queue.add("a/x", "A", [accept()]);
    await queue.run();
    const began = gateway.keys.length;
    const settle = async (): Promise<void> => {
      for (let turn = 0; turn < 40; turn += 1) await new Promise((go) => setImmediate(go));
    };
    await settle();
    expect(gateway.keys.length).toBe(began);
    let tries = began;
    for (const wait of RETRY_MS.slice(1, 4)) {
      vi.advanceTimersByTime(wait + 1);
      await settle();
      expect(gateway.keys.length).toBe((tries += 1));
      vi.advanceTimersByTime(10);
      await settle();
      expect(gateway.keys.length).toBe(tries);
    }
    gateway.answer = () => DONE;
    queue.wake();
    await settle();
    expect(await waiting()).toEqual([]);
    vi.advanceTimersByTime(10 * 60_000);
    await settle();
    expect(gateway.keys.length).toBe(tries + 1);
  });

  it("a fault with one alarm holds back that one only", async () => {
    gateway.answer = (entry) => (entry.alarm === "a/x" ? { kind: "later", everything: false } : DONE);
    const queue = queueOf();
    await queue.add("a/x", "A", [accept(), onSite()]);
    await queue.add("b/x", "B", [accept()]);
    await queue.run();
    expect(gateway.told).toEqual(["b/x accept"]);
    expect(await waiting()).toEqual(["a/x accept", "a/x on-site"]);
  });
});
