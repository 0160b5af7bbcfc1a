// The shapes of the API under the names that this program uses.
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Alarm = Schemas["AlarmView"];
export type Transition = Schemas["TransitionView"];
export type Level = Alarm["level"];
export type StateName = Alarm["state"];
export type Why = Schemas["WhyView"];
export type Explanation = Schemas["ExplanationView"];
export type Asset = Schemas["AssetView"];
export type Point = Schemas["PointOut"];
export type Health = Schemas["HealthView"];
export type LoadNow = Schemas["LoadNowView"];
export type Flood = Schemas["FloodView"];
export type Title = Schemas["Title"];
