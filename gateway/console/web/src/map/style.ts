// How the map is drawn: our own few layers over the city's roads and outlines, or over tiles where the settings name some.
// Nothing is fetched from outside: glyphs are drawn by the browser.
import { addProtocol, setWorkerUrl, type StyleSpecification } from "maplibre-gl";
import workerUrl from "maplibre-gl/dist/maplibre-gl-worker.mjs?url";

import type { components } from "../api/schema";
import type { Theme } from "../ui/theme";
import { groundLayers } from "./ground";

type Pair = [number, number];
export type MapSettings = Omit<components["schemas"]["MapSettingsView"], "bounds" | "center"> & {
  bounds: [number, number, number, number] | null;
  center: Pair | null;
};

export const ASSETS = "assets";
export const LINES = "lines";
export const MARKS = "marks";
export const CLUSTERS = "clusters";

const FONT = ["sans-serif"];
const LEVEL = ["match", ["get", "rank"], 1, "#c62828", 2, "#d05f00", 3, "#c79a00", 4, "#1d6fc4", "#6c7f90"];

let prepared = false;

export async function prepareWorker(): Promise<void> {
  if (prepared) return;
  setWorkerUrl(new URL(workerUrl, location.href).href);
  const { Protocol } = await import("pmtiles");
  addProtocol("pmtiles", new Protocol().tile);
  prepared = true;
}

/** What layers the settings' vector archive has; none without one. */
export async function layersOf(settings: MapSettings): Promise<string[]> {
  if (settings.pmtiles?.kind !== "vector") return [];
  const { PMTiles } = await import("pmtiles");
  const about = (await new PMTiles(`${location.origin}${settings.pmtiles.url}`).getMetadata()) as { vector_layers?: { id: string }[] };
  return (about.vector_layers ?? []).map((layer) => layer.id);
}

/** `layers`: those of a vector archive, as `layersOf` gives them. */
export function styleOf(settings: MapSettings, theme: Theme, layers: readonly string[]): StyleSpecification {
  const dark = theme === "dark";
  const land = dark ? "#111a22" : "#e9edf0";
  const road = dark ? "#33424f" : "#ffffff";
  const edge = dark ? "#1b2731" : "#c9d2da";
  const ink = dark ? "#b7c4d0" : "#3c4a57";
  const halo = dark ? "#0e151c" : "#ffffff";
  const raster = settings.tiles !== null || settings.pmtiles?.kind === "raster";
  return {
    version: 8,
    sources: {
      base: { type: "geojson", data: { type: "FeatureCollection", features: [] } },
      [LINES]: { type: "geojson", data: { type: "FeatureCollection", features: [] } },
      [ASSETS]: {
        type: "geojson",
        data: { type: "FeatureCollection", features: [] },
        promoteId: "asset",
        cluster: true,
        clusterRadius: 46,
        clusterMaxZoom: 15,
        clusterProperties: { rank: ["min", ["get", "rank"]], alarmed: ["+", ["get", "alarmed"]] },
      },
      ...(settings.tiles
        ? { tiles: { type: "raster", tiles: [settings.tiles.url], tileSize: 256, maxzoom: settings.tiles.max_zoom, attribution: settings.tiles.attribution } as const }
        : {}),
      ...(settings.pmtiles
        ? { tiles: { type: settings.pmtiles.kind, url: `pmtiles://${location.origin}${settings.pmtiles.url}`, ...(raster ? { tileSize: 256 } : {}) } }
        : {}),
    },
    layers: [
      { id: "land", type: "background", paint: { "background-color": land } },
      ...(raster ? [{ id: "tiles", type: "raster", source: "tiles", paint: { "raster-opacity": dark ? 0.7 : 1 } } as const] : []),
      ...groundLayers(layers, theme),
      {
        id: "outline", type: "line", source: "base", filter: ["==", ["get", "layer"], "outline"],
        paint: { "line-color": ink, "line-width": 1.5, "line-dasharray": [4, 2] },
      },
      {
        id: "road-edge", type: "line", source: "base", filter: ["==", ["get", "layer"], "road"],
        layout: { "line-cap": "round", "line-join": "round" },
        paint: { "line-color": edge, "line-width": ["interpolate", ["exponential", 1.5], ["zoom"], 9, 1.5, 17, 16] },
      },
      {
        id: "road", type: "line", source: "base", filter: ["==", ["get", "layer"], "road"],
        layout: { "line-cap": "round", "line-join": "round" },
        paint: { "line-color": road, "line-width": ["interpolate", ["exponential", 1.5], ["zoom"], 9, 0.8, 17, 12] },
      },
      {
        id: "catchment", type: "fill", source: LINES, filter: ["==", ["get", "kind"], "catchment"],
        paint: { "fill-color": "#2f7fb5", "fill-opacity": 0.07, "fill-outline-color": "#2f7fb5" },
      },
      {
        id: "lines", type: "line", source: LINES, filter: ["!=", ["get", "kind"], "catchment"], minzoom: 11,
        paint: {
          "line-color": [
            "case", [">", ["get", "level"], 0], ["match", ["get", "level"], 1, "#c62828", 2, "#d05f00", 3, "#c79a00", "#1d6fc4"],
            ["match", ["get", "kind"], "feeder", "#b08a2e", "bridge", "#7b5ea7", "#2f7fb5"],
          ] as never,
          "line-width": ["interpolate", ["linear"], ["zoom"], 11, 0.8, 17, 2.5],
          "line-opacity": 0.8,
        },
      },
      {
        id: "road-name", type: "symbol", source: "base", filter: ["==", ["get", "layer"], "road"], minzoom: 11.5,
        layout: {
          "symbol-placement": "line", "text-field": ["coalesce", ["get", "name_zh"], ["get", "name"], ""], "text-font": FONT,
          "text-size": 12, "text-max-angle": 30,
        },
        paint: { "text-color": ink, "text-halo-color": halo, "text-halo-width": 1.5 },
      },
      {
        id: CLUSTERS, type: "circle", source: ASSETS, filter: ["has", "point_count"],
        paint: {
          "circle-color": LEVEL as never,
          "circle-radius": ["interpolate", ["linear"], ["ln", ["get", "point_count"]], 0.7, 11, 4, 16, 8, 22, 11, 28],
          "circle-stroke-color": halo, "circle-stroke-width": 2,
          "circle-opacity": ["case", ["==", ["get", "rank"], 9], 0.75, 1],
        },
      },
      {
        id: "cluster-count", type: "symbol", source: ASSETS, filter: ["has", "point_count"],
        layout: {
          "text-field": [
            "case", ["==", ["get", "rank"], 9], ["get", "point_count_abbreviated"],
            ["concat", ["match", ["get", "rank"], 1, "I", 2, "II", 3, "III", "IV"], "·", ["to-string", ["get", "alarmed"]], "\n", ["get", "point_count_abbreviated"]],
          ] as never,
          "text-font": FONT, "text-size": 11, "text-allow-overlap": true, "text-line-height": 1.05,
        },
        paint: { "text-color": ["match", ["get", "rank"], 3, "#1c1600", "#ffffff"] as never },
      },
      {
        id: MARKS, type: "symbol", source: ASSETS, filter: ["!", ["has", "point_count"]],
        layout: {
          "icon-image": ["get", "mark"], "icon-allow-overlap": true, "icon-ignore-placement": true,
          "symbol-sort-key": ["-", 10, ["get", "rank"]],
          "icon-size": ["interpolate", ["linear"], ["zoom"], 13, 0.75, 17, 1.1],
        },
      },
    ],
  } as StyleSpecification;
}
