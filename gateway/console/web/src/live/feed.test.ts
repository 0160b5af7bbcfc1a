import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { Feed, SILENT_MS, type Listener } from "./feed";

/** The browser's EventSource as far as we use it, moved by hand. */
class Source extends EventTarget {
  static made: Source[] = [];
  static readonly CLOSED = 2;
  readyState = 0;
  onerror: (() => void) | null = null;

  constructor(readonly url: string) {
    super();
    Source.made.push(this);
  }

  close(): void {
    this.readyState = 2;
  }

  hear(name: string, data = "{}"): void {
    this.dispatchEvent(new MessageEvent(name, { data }));
  }

  break(closed: boolean): void {
    this.readyState = closed ? 2 : 0;
    this.onerror?.();
  }
}

const links: string[] = [];
const snapshots: string[] = [];
let out = 0;
const listener: Listener = {
  snapshot: (data) => snapshots.push(data),
  alarm: () => undefined,
  load: () => undefined,
  link: (state) => links.push(state),
  signedOut: () => (out += 1),
};
let status = 200;

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("EventSource", Source);
  vi.stubGlobal("fetch", async () => new Response("{}", { status }));
  Source.made = [];
  links.length = snapshots.length = 0;
  status = 200;
  out = 0;
});
afterEach(() => {
  vi.unstubAllGlobals();
});

const newest = (): Source => Source.made[Source.made.length - 1]!;

describe("the live stream", () => {
  it("is live when it is heard and lost when it falls silent, and comes back by itself", async () => {
    const feed = new Feed(listener);
    newest().hear("snapshot", "1");
    expect(links.at(-1)).toBe("live");
    await vi.advanceTimersByTimeAsync(SILENT_MS - 1);
    newest().hear("alive");
    await vi.advanceTimersByTimeAsync(SILENT_MS - 1);
    expect(links.at(-1)).toBe("live");
    await vi.advanceTimersByTimeAsync(2);
    expect(links.at(-1)).toBe("lost");
    await vi.advanceTimersByTimeAsync(1000);
    expect(Source.made.length).toBe(2);
    newest().hear("snapshot", "2");
    expect(links.at(-1)).toBe("live");
    expect(snapshots).toEqual(["1", "2"]);
    feed.close();
  });

  it("is opened anew when the browser has given it up, more slowly each time", async () => {
    const feed = new Feed(listener);
    for (let times = 0; times < 4; times += 1) {
      newest().break(true);
      await vi.advanceTimersByTimeAsync(5001);
    }
    expect(Source.made.length).toBe(5);
    expect(links).toContain("lost");
    feed.close();
    newest().break(true);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(Source.made.length).toBe(5);
  });

  it("asks who we are before it opens again, and stops when the session is over", async () => {
    const feed = new Feed(listener);
    status = 401;
    newest().break(true);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(out).toBe(1);
    expect(Source.made.length).toBe(1);
    feed.close();
  });
});
