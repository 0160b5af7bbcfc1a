// What a crew did, told to the gateway: in their own order, one after the other for each alarm, once each, as soon as there
// is a way. What the gateway refuses stays, with its reason, and holds back what came later at the same alarm; a person
// drops it or tries it again. Without a way everything waits.
import { newKey } from "../api/key";
import type { Alarm } from "../api/types";
import type { Act, CrewStore, Entry, Refusal } from "./store";

export type Outcome =
  | { readonly kind: "done"; readonly alarm: Alarm | null }
  | { readonly kind: "refused"; readonly refusal: Refusal }
  /** Not now; ``everything``: nothing else gets through either. */
  | { readonly kind: "later"; readonly everything: boolean; readonly afterMs?: number | undefined }
  | { readonly kind: "signed out" };

/** The way to the gateway. */
export interface Sender {
  /** The name of who is signed in, null for nobody. Throws when there is no way. */
  who(): Promise<string | null>;
  send(entry: Entry): Promise<Outcome>;
}

export interface QueueListener {
  /** The entries have changed. */
  changed(): void;
  /** The gateway did it. */
  told(entry: Entry, alarm: Alarm | null): void;
  /** Nothing goes on before ``user`` has signed in. */
  signedOut(): void;
}

/** How long until the next try after so many failures: quickly at first, as a tunnel is short. */
export const RETRY_MS: readonly number[] = [2_000, 5_000, 15_000, 30_000, 60_000, 120_000];

/** Runs one at a time in all windows of this browser; null when another one is at it. */
export type Lock = <T>(work: () => Promise<T>) => Promise<T | null>;

export const webLock: Lock = async (work) => {
  if (navigator.locks === undefined) return await work(); // no TLS: the keys alone make sure of `once`
  return await navigator.locks.request("citywatch-crew-queue", { ifAvailable: true }, async (held) => (held === null ? null : await work()));
};

export class Queue {
  private running: Promise<void> | null = null;
  private again = false;
  private closed = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private failures = 0;

  constructor(
    private readonly user: string,
    private readonly store: CrewStore,
    private readonly sender: Sender,
    private readonly listener: QueueListener,
    private readonly lock: Lock = webLock,
  ) {}

  /** Kept before this returns; told when it can be. */
  async add(alarm: string, about: string, acts: readonly { readonly act: Act; readonly key: string; readonly at: number }[]): Promise<void> {
    await this.store.add(acts.map((one) => ({ user: this.user, alarm, about, refused: null, ...one })));
    this.listener.changed();
    this.wake();
  }

  /** There may be a way now: the network is back, the page is looked at, somebody has signed in. */
  wake(): void {
    this.failures = 0;
    void this.run();
  }

  /** Under a new key: the gateway answers the old one as it did, and has surely not done it. */
  async retry(entry: Entry): Promise<void> {
    await this.store.again(entry.id, newKey());
    this.listener.changed();
    this.wake();
  }

  async drop(entry: Entry): Promise<void> {
    await this.store.remove(entry);
    this.listener.changed();
    this.wake();
  }

  /** No more tries; what waits stays. */
  close(): void {
    clearTimeout(this.timer);
    this.closed = true;
  }

  /** Until all that can be told now has been. */
  async run(): Promise<void> {
    this.again = true;
    this.running ??= this.passes().finally(() => {
      this.running = null;
    });
    await this.running;
  }

  private async passes(): Promise<void> {
    while (this.again && !this.closed) {
      this.again = false;
      clearTimeout(this.timer);
      const wait = await this.lock(() => this.pass()).catch(() => 0);
      if (wait === undefined || this.closed) continue;
      if (wait === null) this.listener.changed(); // another window tells it
      const pause = Math.max(wait ?? 0, RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)]!);
      this.failures += 1;
      this.timer = setTimeout(() => void this.run(), pause * (1 + Math.random() / 4));
    }
  }

  /** Everything that is not held back, once; gives how long to wait before the rest, undefined when nothing waits. */
  private async pass(): Promise<number | undefined> {
    if ((await this.next(new Set())) === undefined) return undefined;
    try {
      if ((await this.sender.who()) !== this.user) {
        this.listener.signedOut();
        return undefined;
      }
    } catch {
      return 0;
    }
    const postponed = new Set<string>();
    let pause: number | undefined;
    for (let entry = await this.next(postponed); entry !== undefined && !this.closed; entry = await this.next(postponed)) {
      const outcome = await this.sender.send(entry);
      switch (outcome.kind) {
        case "done":
          await this.store.remove(entry);
          this.failures = 0;
          this.listener.told(entry, outcome.alarm);
          this.listener.changed();
          break;
        case "refused":
          await this.store.refuse(entry.id, outcome.refusal);
          this.listener.changed();
          break;
        case "later":
          pause = Math.max(pause ?? 0, outcome.afterMs ?? 0);
          if (outcome.everything) return pause;
          postponed.add(entry.alarm);
          break;
        case "signed out":
          this.listener.signedOut();
          return undefined;
      }
    }
    return pause;
  }

  /** The first one that may be told: nothing before it at its alarm was refused or could not be told. */
  private async next(postponed: ReadonlySet<string>): Promise<Entry | undefined> {
    const held = new Set(postponed);
    for (const entry of await this.store.entries(this.user)) {
      if (entry.refused !== null) held.add(entry.alarm);
      else if (!held.has(entry.alarm)) return entry;
    }
    return undefined;
  }
}
