// What people call kinds, points, states and attributes: the gateway's own words, loaded once.
import { shallowRef } from "vue";

import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { said, t, valueText } from "../i18n";

type Names = components["schemas"]["NamesView"];

const names = shallowRef<Names>({ kinds: {}, points: {}, points_of_kind: {}, attributes: {}, states: {} });

export async function loadNames(): Promise<void> {
  names.value = await ask(api.GET("/api/v1/names"));
}

/** A kind of asset by its name; one that nobody has named keeps its id. */
export function kindName(kind: string): string {
  return said(names.value.kinds[kind]) || kind;
}

/** A point by its name, and of which pump it is; ``kind``: of the asset, where kinds use the same word otherwise. */
export function pointName(point: string, kind = ""): string {
  const pump = /^p(\d{1,2})_/.exec(point);
  const plain = pump === null ? point : point.replace(/^p\d{1,2}_/, "pN_");
  const name = said(names.value.points_of_kind[kind]?.[plain] ?? names.value.points[plain]) || point;
  return pump === null ? name : t("unit.pump", { n: pump[1]!, name });
}

export function attributeName(attribute: string): string {
  return said(names.value.attributes[attribute]) || attribute;
}

/** A reading in words where its values have some (a door is open), else as a number with its unit. */
export function readingText(point: string, value: boolean | number | string | null | undefined, unit = ""): string {
  const states = names.value.states[point.replace(/^p\d{1,2}_/, "pN_")];
  const state = states === undefined ? undefined : states[String(value)];
  return state === undefined ? valueText(value, unit) : said(state);
}
