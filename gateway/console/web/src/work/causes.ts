// What it was, in short: the causes that crews meet most, by kind of asset. A crew may write something else; then that is the
// code. Where the city's case platform has codes of its own, they belong here.
import type { Title } from "../api/types";
import { said } from "../i18n";

export const CAUSES = {
  "lamp-head": { zh: "灯具或光源损坏", en: "Lamp or light source broken" },
  driver: { zh: "驱动电源损坏", en: "Driver broken" },
  fuse: { zh: "熔断器熔断", en: "Fuse blown" },
  breaker: { zh: "断路器跳闸", en: "Breaker tripped" },
  contactor: { zh: "接触器故障", en: "Contactor broken" },
  cable: { zh: "电缆故障", en: "Cable fault" },
  leakage: { zh: "漏电", en: "Current leaking to earth" },
  control: { zh: "控制器故障", en: "Controller fault" },
  "cover-open": { zh: "井盖被打开", en: "Cover was opened" },
  "cover-moved": { zh: "井盖移位", en: "Cover moved" },
  "cover-missing": { zh: "井盖丢失", en: "Cover missing" },
  "cover-broken": { zh: "井盖破损", en: "Cover broken" },
  lock: { zh: "锁具损坏", en: "Lock broken" },
  blocked: { zh: "堵塞", en: "Blocked" },
  silted: { zh: "淤积", en: "Silted" },
  backflow: { zh: "河水倒灌", en: "Backflow from the river" },
  inlet: { zh: "雨水口堵塞", en: "Street inlet blocked" },
  rain: { zh: "雨量过大", en: "More rain than the drains take" },
  pump: { zh: "水泵故障", en: "Pump broken" },
  screen: { zh: "格栅堵塞", en: "Screen blocked" },
  valve: { zh: "阀门故障", en: "Valve fault" },
  burst: { zh: "管道破裂", en: "Pipe burst" },
  leak: { zh: "泄漏", en: "Leak" },
  flushing: { zh: "管网冲洗", en: "Pipes were flushed" },
  dosing: { zh: "加药异常", en: "Dosing fault" },
  overload: { zh: "超载车辆", en: "Overweight vehicle" },
  joint: { zh: "伸缩缝或支座异常", en: "Expansion joint or bearing" },
  dust: { zh: "降尘措施不到位", en: "Dust was not kept down" },
  noise: { zh: "违规施工噪声", en: "Noise against the rules" },
  vehicle: { zh: "车辆违停", en: "Vehicle where it must not be" },
  configuration: { zh: "参数设置错误", en: "Wrongly configured" },
  power: { zh: "供电中断", en: "No supply" },
  network: { zh: "通信中断", en: "No network" },
  sensor: { zh: "传感器或终端故障", en: "Sensor or terminal broken" },
  battery: { zh: "电池耗尽", en: "Battery empty" },
  dirt: { zh: "传感器脏污或被遮挡", en: "Sensor dirty or covered" },
  damage: { zh: "外力损坏（车辆、施工）", en: "Damaged by traffic or works" },
  theft: { zh: "盗窃或人为破坏", en: "Theft or vandalism" },
  "false-alarm": { zh: "误报，现场正常", en: "False alarm: all is well" },
} as const satisfies Record<string, Title>;

export type Cause = keyof typeof CAUSES;

const ELECTRIC: readonly Cause[] = ["fuse", "breaker", "contactor", "cable", "leakage", "control", "power"];
const OF_KIND: Readonly<Record<string, readonly Cause[]>> = {
  lamp: ["lamp-head", "driver", "fuse", "cable", "control", "leakage"],
  feeder: ELECTRIC,
  cabinet: ELECTRIC,
  manhole: ["cover-open", "cover-moved", "cover-missing", "cover-broken", "lock", "blocked", "backflow", "rain"],
  pipe: ["blocked", "silted", "backflow", "burst", "rain"],
  road: ["inlet", "rain", "blocked", "pump", "backflow"],
  pump: ["pump", "screen", "blocked", "valve", "control", "power"],
  bridge: ["overload", "joint"],
  water: ["burst", "valve", "flushing", "dosing", "leak"],
  gas: ["leak", "valve"],
  heat: ["leak", "burst", "valve", "pump", "blocked"],
  site: ["dust", "noise"],
  parking: ["vehicle", "control"],
  network: ["configuration", "power"],
  gateway: ["configuration", "power"],
};
const ALWAYS: readonly Cause[] = ["sensor", "battery", "dirt", "network", "damage", "theft", "false-alarm"];

/** Those to choose from, the likeliest first. */
export function causesOf(kind: string): Cause[] {
  return [...new Set([...(OF_KIND[kind] ?? []), ...ALWAYS])];
}

/** A code in words; one that somebody wrote themselves, or another system, is its own. */
export function causeText(code: string | null): string {
  if (code === null) return "";
  return Object.hasOwn(CAUSES, code) ? said(CAUSES[code as Cause]) : code;
}
