import { describe, expect, it } from "vitest";

import { Problem } from "../api/client";
import { deviceTime, learn } from "./clock";
import { foresee, possible } from "./foreseen";
import { fitted } from "./photo";
import { meaning } from "./sender";
import type { Act, Entry } from "./store";

const entry = (act: Act, at = 1, refused: Entry["refused"] = null): Entry => ({ id: at, user: "wang", alarm: "a/x", about: "", key: "", at, act, refused });
const done: Act = { what: "done", cause_code: "x", action: "y", by_person: false, photos: [] };

describe("what the work will be", () => {
  it("is as the crew has it, with what waits", () => {
    const found = foresee("DISPATCHED", [entry({ what: "accept" }, 1), entry({ what: "on-site" }, 2), entry({ what: "photo", photo: "p" }, 3), entry(done, 4)]);
    expect(found.work).toBe("DONE");
    expect([...found.waiting]).toEqual([["ACCEPTED", 1], ["ON_SITE", 2], ["DONE", 4]]);
    expect(possible("DISPATCHED")).toContain("accept");
    expect(possible(found.work)).toEqual([]);
  });

  it("ends at what was refused", () => {
    const found = foresee("DISPATCHED", [entry({ what: "accept" }, 1, { status: 409, titles: { zh: "", en: "" }, detail: undefined }), entry({ what: "on-site" }, 2)]);
    expect(found.work).toBe("DISPATCHED");
    expect(found.refused?.id).toBe(1);
  });
});

describe("what a failed request means", () => {
  const problem = (status: number, code = "x", after?: number): Problem => new Problem(code, { zh: "不", en: "no" }, "why", status, after);

  it("is a refusal, a pause, or the end of the session", () => {
    for (const status of [400, 403, 404, 409, 413, 422]) expect(meaning(problem(status))).toMatchObject({ kind: "refused", refusal: { status, detail: "why" } });
    for (const status of [0, 408, 429]) expect(meaning(problem(status))).toMatchObject({ kind: "later", everything: true });
    expect(meaning(problem(429, "too_many", 7))).toMatchObject({ afterMs: 7000 });
    expect(meaning(problem(503))).toMatchObject({ kind: "later", everything: false });
    expect(meaning(problem(401))).toEqual({ kind: "signed out" });
    expect(meaning(problem(403, "must_change"))).toEqual({ kind: "signed out" });
    expect(meaning(new SyntaxError("a portal's page"))).toMatchObject({ kind: "later", everything: true });
  });
});

describe("a photo", () => {
  it("is made to fit and never larger", () => {
    expect(fitted(4000, 3000)).toEqual([1600, 1200]);
    expect(fitted(3000, 4000)).toEqual([1200, 1600]);
    expect(fitted(800, 600)).toEqual([800, 600]);
    expect(fitted(9000, 2)).toEqual([1600, 1]);
  });
});

describe("the phone's clock", () => {
  it("is set right where it is wrong, and left alone where it is nearly right", () => {
    const now = Date.parse("2026-07-20T12:10:00Z");
    learn("Mon, 20 Jul 2026 12:00:00 GMT", now);
    expect(Date.parse(deviceTime(now))).toBeLessThan(Date.parse("2026-07-20T12:00:02Z"));
    learn("Mon, 20 Jul 2026 12:09:59 GMT", now);
    expect(Date.parse(deviceTime(now))).toBe(now);
    learn(null, now);
    learn("nonsense", now);
    expect(Date.parse(deviceTime(now))).toBe(now);
  });
});
