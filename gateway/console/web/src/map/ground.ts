// The ground of a vector archive: whatever layers it has, the few kinds that help to find one's way are drawn quietly.
import type { LayerSpecification } from "maplibre-gl";

import type { Theme } from "../ui/theme";

interface Kind {
  readonly name: RegExp;
  readonly shape: "fill" | "line";
  readonly light: string;
  readonly dark: string;
  readonly width?: number;
}

/** By what the usual schemas (OpenMapTiles, Protomaps, Shortbread) call them; the first that fits, from below to above. */
const KINDS: readonly Kind[] = [
  { name: /park|wood|forest|grass|landcover|landuse|green/i, shape: "fill", light: "#dde7da", dark: "#15211a" },
  { name: /water_lines|waterway|river|stream/i, shape: "line", light: "#b9d3e6", dark: "#1d3347", width: 1.2 },
  { name: /water|ocean|lake/i, shape: "fill", light: "#b9d3e6", dark: "#1d3347" },
  { name: /building/i, shape: "fill", light: "#d6dadf", dark: "#202c37" },
  { name: /road|transport|street|highway/i, shape: "line", light: "#ffffff", dark: "#33424f", width: 2 },
  { name: /bound|admin/i, shape: "line", light: "#8f9ba6", dark: "#56646f", width: 1 },
];

/** Layers of the source ``tiles`` for an archive that has these layers; those of no kind we know are left out. */
export function groundLayers(names: readonly string[], theme: Theme): LayerSpecification[] {
  const found = names.flatMap((name) => {
    const order = KINDS.findIndex((kind) => kind.name.test(name));
    return order < 0 ? [] : [{ name, order, kind: KINDS[order]! }];
  });
  found.sort((a, b) => a.order - b.order);
  return found.map(({ name, kind }) => {
    const colour = kind[theme];
    const common = { id: `ground-${name}`, source: "tiles", "source-layer": name };
    return kind.shape === "fill"
      ? { ...common, type: "fill", filter: ["==", ["geometry-type"], "Polygon"], paint: { "fill-color": colour } }
      : { ...common, type: "line", filter: ["==", ["geometry-type"], "LineString"], paint: { "line-color": colour, "line-width": kind.width ?? 1 } };
  });
}
