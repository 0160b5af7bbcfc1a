// What of the alarm list is shown, as it stands in the address bar: a view that somebody sends to a colleague, or saves,
// is a text.
import type { Alarm, Level, StateName } from "../api/types";
import type { Place } from "../live/places";
import { LEVELS, QUIET, STATES } from "./order";

export interface Filter {
  levels: Level[];
  /** Empty: all that ask for somebody. */
  states: StateName[];
  kinds: string[];
  town: string;
  road: string;
  unit: string;
  rule: string;
  asset: string;
  assigned: string;
  /** A state of its work; "NONE": nobody was sent. */
  work: string;
  /** Words that must all occur in titles, ids, names, roads. */
  text: string;
}

export type Query = Record<string, string | null | (string | null)[] | undefined>;

export const EVERYTHING: Readonly<Filter> = {
  levels: [], states: [], kinds: [], town: "", road: "", unit: "", rule: "", asset: "", assigned: "", work: "", text: "",
};

const WORDS = { town: "town", road: "road", unit: "unit", rule: "rule", asset: "asset", assigned: "assigned", work: "work", text: "q" } as const;

export function filterOf(query: Query): Filter {
  const list = (name: string): string[] => one(query[name]).split(",").filter((word) => word !== "");
  const found: Filter = {
    ...EVERYTHING,
    levels: list("level").filter((word): word is Level => (LEVELS as readonly string[]).includes(word)),
    states: list("state").filter((word): word is StateName => (STATES as readonly string[]).includes(word)),
    kinds: list("kind"),
  };
  for (const [field, name] of Object.entries(WORDS)) found[field as keyof typeof WORDS] = one(query[name]);
  return found;
}

/** The part of an address bar that says this; what does not narrow is left out. */
export function queryOf(filter: Filter): Record<string, string> {
  const query: Record<string, string> = {};
  if (filter.levels.length > 0) query["level"] = filter.levels.join(",");
  if (filter.states.length > 0) query["state"] = filter.states.join(",");
  if (filter.kinds.length > 0) query["kind"] = filter.kinds.join(",");
  for (const [field, name] of Object.entries(WORDS)) {
    const value = filter[field as keyof typeof WORDS];
    if (value !== "") query[name] = value;
  }
  return query;
}

export function narrows(filter: Filter): boolean {
  return Object.keys(queryOf(filter)).length > 0;
}

/** A test made once for many alarms. ``placeOf`` knows the assets. */
export function matcher(filter: Filter, placeOf: (asset: string) => Place | undefined): (alarm: Alarm) => boolean {
  const levels = new Set(filter.levels);
  const states = new Set(filter.states);
  const kinds = new Set(filter.kinds);
  const words = filter.text.toLowerCase().split(/\s+/).filter((word) => word !== "");
  const placed = filter.town !== "" || filter.road !== "" || filter.unit !== "";
  return (alarm) => {
    if (states.size > 0 ? !states.has(alarm.state) : QUIET.has(alarm.state)) return false;
    if (levels.size > 0 && !levels.has(alarm.level)) return false;
    if (kinds.size > 0 && !kinds.has(alarm.kind)) return false;
    if (filter.rule !== "" && alarm.rule !== filter.rule) return false;
    if (filter.asset !== "" && alarm.asset !== filter.asset) return false;
    if (filter.assigned !== "" && alarm.assigned_to !== filter.assigned && sentTo(alarm) !== filter.assigned) return false;
    if (filter.work !== "" && alarm.work !== filter.work) return false;
    if (!placed && words.length === 0) return true;
    const place = placeOf(alarm.asset);
    if (filter.town !== "" && place?.town !== filter.town) return false;
    if (filter.road !== "" && place?.road !== filter.road) return false;
    if (filter.unit !== "" && place?.unit !== filter.unit) return false;
    if (words.length === 0) return true;
    const where = place === undefined ? "" : `${place.name} ${place.road} ${place.town} ${place.unit}`;
    const all = `${alarm.alarm_id} ${alarm.title.zh} ${alarm.title.en} ${alarm.assigned_to ?? ""} ${sentTo(alarm)} ${where}`.toLowerCase();
    return words.every((word) => all.includes(word));
  };
}

/** Who was sent and is not through with it; "" for nobody. */
export function sentTo(alarm: Alarm): string {
  return alarm.order === null || alarm.work === "CLOSED" ? "" : alarm.order.to;
}

function one(value: string | null | (string | null)[] | undefined): string {
  return (Array.isArray(value) ? value[0] : value) ?? "";
}
