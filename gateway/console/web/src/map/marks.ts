// The marks of the map, drawn once: the level by shape and colour as in the list, the kind of asset by a sign within.
import type { Map as GlMap } from "maplibre-gl";

import type { Level } from "../api/types";

/** 0: nothing stands; else the level's rank. */
export type Rank = 0 | 1 | 2 | 3 | 4;

export const RANKS: Record<Level, Rank> = { I: 1, II: 2, III: 3, IV: 4 };
export const LEVEL_OF: Record<Rank, Level | null> = { 0: null, 1: "I", 2: "II", 3: "III", 4: "IV" };

const FILL: Record<Rank, string> = { 0: "#6c7f90", 1: "#c62828", 2: "#d05f00", 3: "#c79a00", 4: "#1d6fc4" };
const SIGNS: Record<string, string> = {
  lamp: "灯", feeder: "路", manhole: "盖", pipe: "管", road: "涝", rain: "雨", pump: "泵", bridge: "桥", water: "水", gas: "气",
  heat: "热", site: "尘", parking: "车", cabinet: "箱", gateway: "关",
};
const SIZE = 22;
const RATIO = 2;

/** The name of the picture of a kind at a rank; ``acked``: hollow, somebody sees to it. */
export function markName(kind: string, rank: Rank, acked: boolean): string {
  return `${kind}-${rank}${acked ? "-acked" : ""}`;
}

/** Draw all pictures into the map. */
export function drawMarks(map: GlMap, kinds: readonly string[]): void {
  for (const kind of kinds) {
    for (const rank of [0, 1, 2, 3, 4] as const) {
      for (const acked of rank === 0 ? [false] : [false, true]) {
        const name = markName(kind, rank, acked);
        if (!map.hasImage(name)) map.addImage(name, draw(SIGNS[kind] ?? "·", rank, acked), { pixelRatio: RATIO });
      }
    }
  }
}

function draw(sign: string, rank: Rank, acked: boolean): ImageData {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIZE * RATIO;
  const pen = canvas.getContext("2d");
  if (pen === null) throw new Error("no canvas");
  pen.scale(RATIO, RATIO);
  const middle = SIZE / 2;
  pen.beginPath();
  if (rank === 1) pen.rect(2, 2, SIZE - 4, SIZE - 4);
  else if (rank === 2) polygon(pen, [[middle, 0.5], [SIZE - 0.5, middle], [middle, SIZE - 0.5], [0.5, middle]]);
  else if (rank === 3) polygon(pen, [[middle, 0.5], [SIZE - 0.5, SIZE - 2], [0.5, SIZE - 2]]);
  else pen.arc(middle, middle, rank === 0 ? 7.5 : 9.5, 0, 2 * Math.PI);
  pen.fillStyle = acked ? "#ffffff" : FILL[rank];
  pen.strokeStyle = acked ? FILL[rank] : "#ffffff";
  pen.lineWidth = acked ? 2.5 : 1.5;
  pen.fill();
  pen.stroke();
  pen.fillStyle = acked ? FILL[rank] : rank === 3 ? "#1c1600" : "#ffffff";
  pen.font = `${rank === 0 ? 9 : 10}px "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillText(sign, middle, middle + (rank === 3 ? 3 : 0.5));
  return pen.getImageData(0, 0, canvas.width, canvas.height);
}

function polygon(pen: CanvasRenderingContext2D, corners: readonly (readonly [number, number])[]): void {
  for (const [x, y] of corners) pen.lineTo(x, y);
  pen.closePath();
}
