import { describe, expect, it } from "vitest";

import { CAUSES, causesOf, causeText } from "./causes";
import { byUrgency, dueNow } from "./due";
import { amapUri, distanceM, geoUri } from "./navigate";
import { timeline } from "./timeline";
import type { Due, Order, WorkItem } from "./types";

const NOW = Date.parse("2026-07-20T12:00:00Z");
const at = (minutes: number): string => new Date(NOW + minutes * 60_000).toISOString();
const due = (respond: number | null, resolve: number | null): Due => ({
  respond_by: respond === null ? null : at(respond), resolve_by: resolve === null ? null : at(resolve),
});

describe("the time that runs", () => {
  it("is that to respond until somebody has accepted, then that to resolve, then none", () => {
    const times = due(10, 60);
    expect(dueNow(times, "DISPATCHED", NOW)).toEqual({ what: "respond", at: at(10), over: false });
    expect(dueNow(times, "ACCEPTED", NOW)).toEqual({ what: "resolve", at: at(60), over: false });
    expect(dueNow(times, "VERIFYING", NOW)).toBeNull();
    expect(dueNow(due(null, null), "DISPATCHED", NOW)).toBeNull();
  });

  it("is over, and the worse of the two when both are", () => {
    expect(dueNow(due(-1, 60), "DISPATCHED", NOW)).toMatchObject({ what: "respond", over: true });
    expect(dueNow(due(-60, -1), "REJECTED", NOW)).toMatchObject({ what: "resolve", over: true });
    expect(dueNow(due(-60, null), "ON_SITE", NOW)).toBeNull();
  });
});

describe("the order of work", () => {
  it("is the worst first, of these the oldest", () => {
    const item = (id: string, level: string, since: number): WorkItem => ({ alarm: { alarm_id: id, level, active_at: at(since), order: null } }) as never;
    const all = [item("c", "II", -90), item("b", "I", -5), item("a", "I", -30), item("d", "IV", -900)];
    expect(all.sort(byUrgency).map((one) => one.alarm.alarm_id)).toEqual(["a", "b", "c", "d"]);
  });
});

describe("the steps of an order", () => {
  const order = (more: Partial<Order>): Order =>
    ({
      by: "li", since: at(-60), accepted_at: null, accepted_by: null, accepted_device_at: null, on_site_at: null, on_site_device_at: null, done_at: null,
      verify_since: null, closed_at: null, closed_by: null, refused_at: null, ...more,
    }) as Order;
  const states = (more: Partial<Order>, work: Parameters<typeof timeline>[1]): string =>
    timeline(order(more), work).map((step) => (step.at === null ? `(${step.state})` : step.state)).join(" ");

  it("are those behind and those to come", () => {
    expect(states({}, "DISPATCHED")).toBe("DISPATCHED (ACCEPTED) (ON_SITE) (DONE) (CLOSED)");
    expect(states({ accepted_at: at(-50), done_at: at(-5), verify_since: at(-5) }, "VERIFYING")).toBe("DISPATCHED ACCEPTED DONE VERIFYING (CLOSED)");
    expect(states({ accepted_at: at(-50), on_site_at: at(-20), done_at: at(-5) }, "DONE")).toBe("DISPATCHED ACCEPTED ON_SITE DONE (CLOSED)");
    expect(states({ accepted_at: at(-50), refused_at: at(-5) }, "REJECTED")).toBe("DISPATCHED ACCEPTED REJECTED");
    expect(states({ closed_at: at(-5) }, "CLOSED")).toBe("DISPATCHED CLOSED");
  });

  it("say when it was where a phone could tell only later", () => {
    const told = timeline(order({ accepted_at: at(-5), accepted_device_at: at(-30), on_site_at: at(-4), on_site_device_at: at(-4.5) }), "ON_SITE");
    expect(told.map((step) => step.deviceAt)).toEqual([null, at(-30), null, null, null]);
  });
});

describe("causes", () => {
  it("are there for every kind, and what is not of ours is its own word", () => {
    for (const kind of ["lamp", "manhole", "pump", "no such kind"]) {
      const found = causesOf(kind);
      expect(new Set(found).size).toBe(found.length);
      expect(found).toContain("false-alarm");
    }
    expect(causesOf("lamp")[0]).toBe("lamp-head");
    expect([CAUSES.fuse.en, CAUSES.fuse.zh]).toContain(causeText("fuse"));
    expect(causeText("a snake")).toBe("a snake");
    for (const code of Object.keys(CAUSES)) expect(code.length).toBeLessThanOrEqual(64);
  });
});

describe("the way there", () => {
  it("is WGS 84 for the phone's map and GCJ-02 for Amap", () => {
    expect(geoUri(116.1, 35.8, "1 号井 (北)")).toBe("geo:35.800000,116.100000?q=35.800000,116.100000(1%20%E5%8F%B7%E4%BA%95%20(%E5%8C%97))");
    const found = new URL(amapUri(116.1, 35.8, "井,1"));
    const [longitude, latitude, name] = found.searchParams.get("to")!.split(",");
    expect(name).toBe("井 1");
    const off = distanceM({ longitude: 116.1, latitude: 35.8 }, { longitude: Number(longitude), latitude: Number(latitude) });
    expect(off).toBeGreaterThan(300);
    expect(off).toBeLessThan(900);
    expect(distanceM({ longitude: 116.1, latitude: 35.8 }, { longitude: 116.1, latitude: 35.81 })).toBeCloseTo(1112, 0);
  });
});
