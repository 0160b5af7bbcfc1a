import { describe, expect, it } from "vitest";

import type { Alarm } from "../api/types";
import { EVERYTHING, filterOf, matcher, narrows, queryOf } from "./filter";
import { compare, rowsOf } from "./order";

function alarm(id: string, more: Partial<Alarm> = {}): Alarm {
  const [asset = "", rule = ""] = id.split("/");
  return {
    alarm_id: id, asset, rule, kind: "lamp", title: { zh: "路灯不亮", en: "Lamp out" }, state: "UNACK", level: "III",
    active_at: "2025-07-20T12:00:00Z", detected_at: null, work: "NONE", order: null, parent_alarm_id: null, assigned_to: null, rev: 1, ...more,
  } as Alarm;
}

const ids = (alarms: Alarm[]): string[] => alarms.map((one) => one.alarm_id);

describe("the order of the list", () => {
  it("is by level, then state, then the newest first", () => {
    const old = alarm("a/old", { active_at: "2025-07-20T10:00:00Z" });
    const young = alarm("a/young");
    const acked = alarm("a/acked", { state: "ACKED" });
    const returned = alarm("a/returned", { state: "RTNUN" });
    const worst = alarm("a/worst", { level: "I", state: "ACKED" });
    expect(ids([old, acked, returned, worst, young].sort(compare))).toEqual([
      "a/worst", "a/young", "a/old", "a/returned", "a/acked",
    ]);
  });

  it("puts what asks for nobody last, however severe", () => {
    const shelved = alarm("a/shelved", { level: "I", state: "SHLVD" });
    expect(ids([shelved, alarm("a/small", { level: "IV" })].sort(compare))).toEqual(["a/small", "a/shelved"]);
  });

  it("of two that are equal in all is by name, so that rows never swap", () => {
    expect(compare(alarm("a/1"), alarm("a/2"))).toBeLessThan(0);
    expect(compare(alarm("a/1"), alarm("a/1"))).toBe(0);
  });
});

describe("groups", () => {
  const cause = alarm("f1/lost", { level: "II", state: "ACKED" });
  const one = alarm("l1/out", { state: "DSUPR", parent_alarm_id: "f1/lost" });
  const two = alarm("l2/out", { state: "UNACK", parent_alarm_id: "f1/lost" });

  it("fold what hangs on a cause beneath it and count it", () => {
    const rows = rowsOf([one, cause, two], new Set());
    expect(rows.map((row) => [row.alarm.alarm_id, row.children, row.newChildren])).toEqual([["f1/lost", 2, 1]]);
  });

  it("show their members in order when unfolded", () => {
    const rows = rowsOf([one, cause, two], new Set(["f1/lost"]));
    expect(rows.map((row) => [row.alarm.alarm_id, row.depth])).toEqual([["f1/lost", 0], ["l2/out", 1], ["l1/out", 1]]);
  });

  it("stand where their most urgent member would stand alone", () => {
    const grave = alarm("l3/shock", { level: "I", parent_alarm_id: "f1/lost" });
    const other = alarm("x/other", { level: "II" });
    expect(rowsOf([other, cause, grave], new Set()).map((row) => row.alarm.alarm_id)).toEqual(["f1/lost", "x/other"]);
  });

  it("leave an alarm alone whose cause is not in the list", () => {
    expect(rowsOf([one], new Set())[0]?.depth).toBe(0);
  });

  it("follow a cause of a cause to the top, and survive a circle", () => {
    const middle = alarm("c1/lost", { parent_alarm_id: "f1/lost" });
    const deep = alarm("l9/out", { parent_alarm_id: "c1/lost" });
    expect(rowsOf([cause, middle, deep], new Set())[0]?.children).toBe(2);
    const a = alarm("a/a", { parent_alarm_id: "b/b" });
    const b = alarm("b/b", { parent_alarm_id: "a/a" });
    expect(rowsOf([a, b], new Set()).length).toBeGreaterThan(0);
  });

  it("take 20,000 alarms in a small part of half a second", () => {
    const many: Alarm[] = [];
    for (let n = 0; n < 20_000; n += 1) {
      many.push(alarm(`l${n}/out`, { parent_alarm_id: n % 10 === 0 ? null : `l${n - (n % 10)}/out` }));
    }
    expect(rowsOf(many, new Set()).length).toBe(2_000);
  });
});

describe("the filter", () => {
  const none = (): undefined => undefined;

  it("goes into the address bar and comes back", () => {
    const filter = { ...EVERYTHING, levels: ["I" as const], text: "南环路 3", unit: "市政" };
    expect(filterOf(queryOf(filter))).toEqual(filter);
    expect(queryOf({ ...EVERYTHING })).toEqual({});
    expect(narrows({ ...EVERYTHING })).toBe(false);
  });

  it("drops nonsense from an address bar", () => {
    expect(filterOf({ level: "I,V,<script>", state: "NORM" })).toEqual({ ...EVERYTHING, levels: ["I"] });
  });

  it("hides what asks for nobody unless it is asked for", () => {
    const shelved = alarm("a/x", { state: "SHLVD" });
    expect(matcher({ ...EVERYTHING }, none)(shelved)).toBe(false);
    expect(matcher({ ...EVERYTHING, states: ["SHLVD"] }, none)(shelved)).toBe(true);
  });

  it("finds words in title, id and place, all of them", () => {
    const place = { name: "南环路3号", road: "南环路", town: "水泊街道", unit: "市政", kind: "lamp" };
    const search = (text: string): boolean => matcher({ ...EVERYTHING, text }, () => place as never)(alarm("lamp-3/out"));
    expect(search("南环 LAMP-3")).toBe(true);
    expect(search("南环 pump")).toBe(false);
  });

  it("knows who was sent, until the work is closed", () => {
    const sent = alarm("a/x", { work: "ON_SITE", order: { to: "pumps" } } as never);
    const closed = alarm("a/x", { work: "CLOSED", order: { to: "pumps" } } as never);
    expect(matcher({ ...EVERYTHING, assigned: "pumps" }, none)(sent)).toBe(true);
    expect(matcher({ ...EVERYTHING, assigned: "pumps" }, none)(closed)).toBe(false);
    expect(matcher({ ...EVERYTHING, work: "ON_SITE" }, none)(sent)).toBe(true);
    expect(matcher({ ...EVERYTHING, work: "NONE" }, none)(sent)).toBe(false);
  });
});
