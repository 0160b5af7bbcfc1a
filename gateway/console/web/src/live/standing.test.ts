import { beforeEach, describe, expect, it, vi } from "vitest";
import { watch } from "vue";

import type { Alarm } from "../api/types";

const alarm = (id: string, more: Partial<Alarm> = {}): Alarm =>
  ({
    alarm_id: id, asset: id, state: "UNACK", level: "III", rev: 1, annunciated: true, shadow: false, silenced: false, occurrence_id: "1",
    realarm_count: 0, ...more,
  }) as Alarm;

async function fresh() {
  vi.resetModules();
  return import("./standing");
}

describe("the alarms that stand", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });

  it("take what is newer and leave what is older", async () => {
    const { take, alarmOf } = await fresh();
    take(alarm("a", { rev: 3, state: "ACKED" }));
    take(alarm("a", { rev: 2, state: "UNACK" }));
    expect(alarmOf("a")?.state).toBe("ACKED");
    take(alarm("a", { rev: 4, state: "NORM" }));
    expect(alarmOf("a")).toBeUndefined();
  });

  it("know nothing of rules on trial", async () => {
    const { take, standing } = await fresh();
    take(alarm("a", { shadow: true }));
    expect(standing().size).toBe(0);
  });

  it("tell of changes ten times a second at most, and of the first one at once", async () => {
    const { take, version, DRAW_MS } = await fresh();
    await vi.advanceTimersByTimeAsync(DRAW_MS.most);
    const before = version.value;
    take(alarm("a"));
    await vi.advanceTimersByTimeAsync(1);
    expect(version.value - before).toBe(1);
    for (let n = 0; n < 500; n += 1) {
      take(alarm(`b${n}`));
      await vi.advanceTimersByTimeAsync(2);
    }
    await vi.advanceTimersByTimeAsync(DRAW_MS.most);
    expect(version.value - before).toBeLessThanOrEqual(12);
  });

  it("tell of changes more seldom when drawing takes long, but twice a second", async () => {
    const { take, version, DRAW_MS } = await fresh();
    const unwatch = watch(version, () => vi.advanceTimersByTime(300), { flush: "sync" });
    take(alarm("a"));
    await vi.advanceTimersByTimeAsync(1);
    const before = version.value;
    take(alarm("b"));
    await vi.advanceTimersByTimeAsync(DRAW_MS.most - 10);
    expect(version.value).toBe(before);
    await vi.advanceTimersByTimeAsync(20);
    expect(version.value - before).toBe(1);
    unwatch();
  });

  it("count what waits by level", async () => {
    const { take, counts, DRAW_MS } = await fresh();
    take(alarm("a", { level: "I" }));
    take(alarm("b", { level: "I", state: "ACKED" }));
    take(alarm("c", { state: "SHLVD", annunciated: false }));
    await vi.advanceTimersByTimeAsync(DRAW_MS.most);
    expect(counts.value.levels["I"]).toBe(2);
    expect(counts.value.waiting["I"]).toBe(1);
    expect(counts.value.states["SHLVD"]).toBe(1);
  });
});

describe("the sound", () => {
  it("is that of the worst new alarm which nobody has silenced", async () => {
    const { worst } = await import("./sound");
    const all = [alarm("a"), alarm("b", { level: "I", silenced: true }), alarm("c", { level: "II" }), alarm("d", { level: "I", state: "ACKED" })];
    expect(worst(all, new Set())).toBe("II");
    expect(worst([alarm("a", { annunciated: false })], new Set())).toBeNull();
    expect(worst([alarm("a")], new Set(["a 1 III 0"]))).toBeNull();
  });

  it("begins at once for a worse one, and not anew for one that is no worse", async () => {
    const { outranks } = await import("./sound");
    expect(outranks("I", "IV")).toBe(true);
    expect(outranks("IV", null)).toBe(true);
    expect(outranks("IV", "IV")).toBe(false);
    expect(outranks("III", "I")).toBe(false);
  });
});
