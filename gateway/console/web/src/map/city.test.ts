import { describe, expect, it } from "vitest";

import type { Alarm } from "../api/types";
import type { Place } from "../live/places";
import { differing, featuresOf, shownOf } from "./city";
import { shifted, toGcj02 } from "./gcj02";
import { groundLayers } from "./ground";

const alarm = (asset: string, more: Partial<Alarm> = {}): Alarm =>
  ({ alarm_id: `${asset}/x`, asset, state: "UNACK", level: "III", ...more }) as Alarm;
const place = (asset: string, longitude: number | null = 116.1): Place =>
  ({ asset, kind: "lamp", name: asset, road: "", town: "", unit: "", longitude, latitude: 35.8 });

describe("what the map shows of an asset", () => {
  it("is the worst that stands on it, hollow when all is acknowledged", () => {
    const shown = shownOf([alarm("a"), alarm("a", { level: "I", state: "ACKED" }), alarm("b", { state: "ACKED" })]);
    expect(shown.get("a")).toEqual({ rank: 1, acked: false, alarms: 2 });
    expect(shown.get("b")).toEqual({ rank: 3, acked: true, alarms: 1 });
  });

  it("leaves out what asks for nobody", () => {
    expect(shownOf([alarm("a", { state: "DSUPR" })]).size).toBe(0);
  });

  it("changes only where something changed", () => {
    const before = shownOf([alarm("a"), alarm("b"), alarm("c")]);
    const now = shownOf([alarm("a"), alarm("b", { state: "ACKED" }), alarm("d")]);
    expect(differing(before, now).sort()).toEqual(["b", "c", "d"]);
  });

  it("has a feature for every asset with a place", () => {
    expect(featuresOf([place("a"), place("b", null)], new Map()).map((feature) => feature.id)).toEqual(["a"]);
  });
});

describe("the shift of Chinese tiles", () => {
  it("is some hundred metres inside China and nothing outside", () => {
    const [longitude, latitude] = toGcj02(116.1, 35.8);
    expect(Math.abs(longitude - 116.1) * 90_000).toBeGreaterThan(300);
    expect(Math.abs(longitude - 116.1) * 90_000).toBeLessThan(800);
    expect(Math.abs(latitude - 35.8) * 111_000).toBeLessThan(800);
    expect(toGcj02(2.35, 48.86)).toEqual([2.35, 48.86]);
  });

  it("moves roads and areas as it moves points", () => {
    const line = { type: "Feature" as const, properties: {}, geometry: { type: "LineString" as const, coordinates: [[116.1, 35.8], [116.2, 35.8]] } };
    const area = { type: "Feature" as const, properties: {}, geometry: { type: "Polygon" as const, coordinates: [[[116.1, 35.8], [116.2, 35.8], [116.1, 35.9], [116.1, 35.8]]] } };
    const [road, town] = shifted({ type: "FeatureCollection", features: [line, area] }).features.map((one) => (one.geometry as GeoJSON.Polygon).coordinates);
    expect(road?.[0]).toEqual(toGcj02(116.1, 35.8));
    expect(town?.[0]?.[3]).toEqual(toGcj02(116.1, 35.8));
    expect(line.geometry.coordinates[0]).toEqual([116.1, 35.8]);
  });
});

describe("the ground of a vector archive", () => {
  it("is drawn from below to above, and layers of no known kind are left out", () => {
    const layers = groundLayers(["roads", "earth_pois", "water", "buildings", "landuse"], "dark");
    expect(layers.map((layer) => [layer.id, layer.type])).toEqual([
      ["ground-landuse", "fill"],
      ["ground-water", "fill"],
      ["ground-buildings", "fill"],
      ["ground-roads", "line"],
    ]);
  });
});
