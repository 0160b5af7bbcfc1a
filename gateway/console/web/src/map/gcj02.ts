// The offset of Chinese map tiles (GCJ-02) from WGS-84, from its published formula: tiles of AutoNavi, Tencent and others
// lie some hundred metres off. Positions are shifted for drawing on such tiles and nowhere else.

const A = 6_378_245; // m, the semi-major axis of Krasovsky 1940
const EE = 0.006693421622965943; // its first eccentricity, squared

/** Degrees WGS-84 → degrees GCJ-02; outside China nothing is shifted. */
export function toGcj02(longitude: number, latitude: number): [number, number] {
  if (longitude < 72.004 || longitude > 137.8347 || latitude < 0.8293 || latitude > 55.8271) return [longitude, latitude];
  const x = longitude - 105;
  const y = latitude - 35;
  const waves = 20 * Math.sin(6 * x * Math.PI) + 20 * Math.sin(2 * x * Math.PI);
  const north =
    -100 + 2 * x + 3 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * Math.sqrt(Math.abs(x)) +
    ((waves + 20 * Math.sin(y * Math.PI) + 40 * Math.sin((y / 3) * Math.PI)) * 2) / 3 +
    ((160 * Math.sin((y / 12) * Math.PI) + 320 * Math.sin((y * Math.PI) / 30)) * 2) / 3;
  const east =
    300 + x + 2 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * Math.sqrt(Math.abs(x)) +
    ((waves + 20 * Math.sin(x * Math.PI) + 40 * Math.sin((x / 3) * Math.PI)) * 2) / 3 +
    ((150 * Math.sin((x / 12) * Math.PI) + 300 * Math.sin((x / 30) * Math.PI)) * 2) / 3;
  const radians = (latitude / 180) * Math.PI;
  const magic = 1 - EE * Math.sin(radians) ** 2;
  const root = Math.sqrt(magic);
  return [
    longitude + (east * 180) / ((A / root) * Math.cos(radians) * Math.PI),
    latitude + (north * 180) / (((A * (1 - EE)) / (magic * root)) * Math.PI),
  ];
}

/** All features with every position shifted; the ones given stay as they are. */
export function shifted(collection: GeoJSON.FeatureCollection): GeoJSON.FeatureCollection {
  const features = collection.features.map((feature) => {
    if (feature.geometry === null || feature.geometry.type === "GeometryCollection") return feature;
    return { ...feature, geometry: { ...feature.geometry, coordinates: positions(feature.geometry.coordinates) } as GeoJSON.Geometry };
  });
  return { ...collection, features };
}

type Positions = GeoJSON.Position | GeoJSON.Position[] | GeoJSON.Position[][] | GeoJSON.Position[][][];

function positions(coordinates: Positions): Positions {
  const [first, second] = coordinates;
  if (typeof first === "number") return toGcj02(first, second as number);
  return (coordinates as GeoJSON.Position[]).map((one) => positions(one)) as GeoJSON.Position[];
}
