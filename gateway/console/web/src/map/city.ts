// What the map draws of the assets: every one a feature with the rank of the worst alarm on it, brought up to date by
// difference so that 50,000 of them cost what changed.
import type { Alarm } from "../api/types";
import { QUIET, isNew } from "../alarms/order";
import type { Place } from "../live/places";
import { markName, RANKS, type Rank } from "./marks";

export interface Shown {
  readonly rank: Rank;
  /** All that stand on it are acknowledged. */
  readonly acked: boolean;
  readonly alarms: number;
}

export const NOTHING: Shown = { rank: 0, acked: false, alarms: 0 };

/** What stands on each asset, for those on which something does. */
export function shownOf(alarms: Iterable<Alarm>): Map<string, Shown> {
  const found = new Map<string, Shown>();
  for (const alarm of alarms) {
    if (QUIET.has(alarm.state)) continue;
    const before = found.get(alarm.asset) ?? { rank: 0, acked: true, alarms: 0 };
    const rank = RANKS[alarm.level];
    found.set(alarm.asset, {
      rank: before.rank === 0 ? rank : (Math.min(before.rank, rank) as Rank),
      acked: before.acked && !isNew(alarm),
      alarms: before.alarms + 1,
    });
  }
  return found;
}

export interface Properties {
  asset: string;
  kind: string;
  mark: string;
  /** 1 the worst … 4, and 9 for none: clusters take the least. */
  rank: number;
  /** How many of a cluster's assets have an alarm: summed. */
  alarmed: number;
  [name: string]: string | number;
}

export function propertiesOf(place: Place, shown: Shown): Properties {
  return {
    asset: place.asset,
    kind: place.kind,
    mark: markName(place.kind, shown.rank, shown.acked),
    rank: shown.rank === 0 ? 9 : shown.rank,
    alarmed: shown.rank === 0 ? 0 : 1,
  };
}

export function featuresOf(places: Iterable<Place>, shown: ReadonlyMap<string, Shown>): GeoJSON.Feature<GeoJSON.Point>[] {
  const features: GeoJSON.Feature<GeoJSON.Point>[] = [];
  for (const place of places) {
    if (place.longitude === null || place.latitude === null) continue;
    features.push({
      type: "Feature",
      id: place.asset,
      geometry: { type: "Point", coordinates: [place.longitude, place.latitude] },
      properties: propertiesOf(place, shown.get(place.asset) ?? NOTHING),
    });
  }
  return features;
}

/** Ids of the assets that look different now. */
export function differing(before: ReadonlyMap<string, Shown>, now: ReadonlyMap<string, Shown>): string[] {
  const found: string[] = [];
  for (const [asset, shown] of now) {
    const old = before.get(asset);
    if (old === undefined || old.rank !== shown.rank || old.acked !== shown.acked) found.push(asset);
  }
  for (const asset of before.keys()) if (!now.has(asset)) found.push(asset);
  return found;
}
