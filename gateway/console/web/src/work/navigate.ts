// The way there, by the phone's own map or by Amap (高德), which wants its positions in GCJ-02.
import { toGcj02 } from "../map/gcj02";

/** RFC 5870, with the question that makes Android set a pin; WGS 84. */
export function geoUri(longitude: number, latitude: number, name: string): string {
  const place = `${latitude.toFixed(6)},${longitude.toFixed(6)}`;
  return `geo:${place}?q=${place}(${encodeURIComponent(name)})`;
}

/** Amap's navigation: opens the app where there is one, else its page. */
export function amapUri(longitude: number, latitude: number, name: string): string {
  const [east, north] = toGcj02(longitude, latitude);
  const to = `${east.toFixed(6)},${north.toFixed(6)},${encodeURIComponent(name.replaceAll(",", " "))}`;
  return `https://uri.amap.com/navigation?to=${to}&mode=car&coordinate=gaode&callnative=1&src=citywatch`;
}

const EARTH_M = 6_371_009;

/** Along the ground, good to 0.5 %. */
export function distanceM(from: { longitude: number; latitude: number }, to: { longitude: number; latitude: number }): number {
  const rad = Math.PI / 180;
  const north = Math.sin(((to.latitude - from.latitude) * rad) / 2) ** 2;
  const east = Math.sin(((to.longitude - from.longitude) * rad) / 2) ** 2;
  return 2 * EARTH_M * Math.asin(Math.sqrt(Math.min(1, north + Math.cos(from.latitude * rad) * Math.cos(to.latitude * rad) * east)));
}
