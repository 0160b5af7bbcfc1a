// Where every asset is and what it is called: loaded once, kept by the browser as long as the gateway says it is the same.
import { shallowRef, triggerRef } from "vue";

import { api, ask } from "../api/client";

export interface Place {
  readonly asset: string;
  readonly kind: string;
  readonly name: string;
  readonly road: string;
  readonly town: string;
  readonly unit: string;
  readonly longitude: number | null;
  readonly latitude: number | null;
}

const places = shallowRef(new Map<string, Place>());
let loading: Promise<void> | null = null;
let loadedAt = 0;
const STALE_MS = 10 * 60_000; // assets are registered by day, not by the second

export function placeOf(asset: string): Place | undefined {
  return places.value.get(asset);
}

export function allPlaces(): ReadonlyMap<string, Place> {
  return places.value;
}

/** What to call an asset: its name, or its id while nobody has told us. */
export function nameOf(asset: string): string {
  return places.value.get(asset)?.name ?? asset;
}

/** Fetch the directory unless it is there already and young. Raises the Problem. */
export async function loadPlaces(now = Date.now()): Promise<void> {
  if (places.value.size > 0 && now - loadedAt < STALE_MS) return;
  loading ??= fetchPlaces().finally(() => {
    loading = null;
  });
  await loading;
}

async function fetchPlaces(): Promise<void> {
  const table = await ask(api.GET("/api/v1/places"));
  const found = new Map<string, Place>();
  for (let n = 0; n < table.asset.length; n += 1) {
    const asset = table.asset[n]!;
    found.set(asset, {
      asset,
      kind: table.kinds[table.kind[n]!]!,
      name: table.name[n]! || asset,
      road: table.roads[table.road[n]!] ?? "",
      town: table.towns[table.town[n]!] ?? "",
      unit: table.units[table.unit[n]!] ?? "",
      longitude: table.longitude[n] ?? null,
      latitude: table.latitude[n] ?? null,
    });
  }
  places.value = found;
  loadedAt = Date.now();
  triggerRef(places);
}
