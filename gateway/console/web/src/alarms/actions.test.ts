import { beforeEach, describe, expect, it } from "vitest";

import type { Alarm } from "../api/types";
import { session } from "../live/session";
import { bodyOf, offered, withChildren } from "./actions";

const alarm = (id: string, more: Partial<Alarm> = {}): Alarm =>
  ({
    alarm_id: id, asset: id, state: "UNACK", level: "III", rev: 1, acked: false, active: true, shelve: "UNSHELVED", latched: false, work: "NONE", shadow: false,
    condition: "ACTIVE", confirmed: false, silenced: false, out_of_service: null, parent_alarm_id: null, active_at: null, detected_at: null,
    ...more,
  }) as Alarm;

function as(role: string): void {
  session.who = { name: "li", role } as never;
}

describe("what is offered", () => {
  beforeEach(() => as("operator"));

  it("fits the alarm and the role", () => {
    const names = offered([alarm("a")]).map((action) => action.name);
    expect(names).toContain("acknowledge");
    expect(names).toContain("shelve");
    expect(names).not.toContain("force-clear");
    expect(names).not.toContain("unshelve");
    as("viewer");
    expect(offered([alarm("a")])).toEqual([]);
  });

  it("fits the work: what is done is verified or sent back by a supervisor", () => {
    const names = (work: string): string[] => offered([alarm("a", { work } as never)]).flatMap((one) => (one.ofWork ? one.name : []));
    expect(names("NONE")).toEqual(["dispatch"]);
    expect(names("VERIFYING")).toEqual(["dispatch", "close"]);
    as("supervisor");
    expect(names("VERIFYING")).toEqual(["dispatch", "verify", "return", "close"]);
    expect(names("ON_SITE")).toEqual(["dispatch", "close"]);
    expect(names("CLOSED")).toEqual(["dispatch"]);
  });

  it("leaves shelving level I to a supervisor", () => {
    const grave = alarm("a", { level: "I" });
    expect(offered([grave]).map((action) => action.name)).not.toContain("shelve");
    as("supervisor");
    expect(offered([grave]).map((action) => action.name)).toContain("shelve");
  });
});

describe("the body of a request", () => {
  it("says what the action needs and leaves out what is empty", () => {
    expect(bodyOf("acknowledge", 7, { comment: "  " })).toEqual({ rev: 7 });
    expect(bodyOf("shelve", 7, { comment: "tested", seconds: 3600 })).toEqual({ rev: 7, reason: "tested", once: false, seconds: 3600 });
    expect(bodyOf("shelve", 7, { comment: "x", once: true, seconds: null })).toEqual({ rev: 7, reason: "x", once: true });
    expect(bodyOf("assign", 7, { to: " crew 2 " })).toEqual({ rev: 7, to: "crew 2" });
    expect(bodyOf("dispatch", 7, { to: "pumps", comment: "by the back gate" })).toEqual({ rev: 7, to: "pumps", comment: "by the back gate" });
    expect(bodyOf("return", 7, { comment: "still dark" })).toEqual({ rev: 7, reason: "still dark" });
    expect(bodyOf("verify", 7, { comment: "" })).toEqual({ rev: 7 });
    expect(bodyOf("out-of-service", 7, { comment: "new lamp", work: "W-1" })).toEqual({ rev: 7, reason: "new lamp", work: "W-1" });
  });
});

describe("a group", () => {
  it("is a cause with all that hangs on it, folded or not", () => {
    const all = [alarm("f/lost"), alarm("l1/out", { parent_alarm_id: "f/lost" }), alarm("l2/out", { parent_alarm_id: "f/lost" }), alarm("x")];
    expect(withChildren(all[0]!, all).map((one) => one.alarm_id).sort()).toEqual(["f/lost", "l1/out", "l2/out"]);
    expect(withChildren(all[3]!, all)).toEqual([all[3]]);
  });
});
