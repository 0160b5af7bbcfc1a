// Work in the field: the shapes of the API under the names that this program uses.
import type { components } from "../api/schema";

type Schemas = components["schemas"];

export type Order = Schemas["OrderView"];
export type WorkItem = Schemas["WorkItem"];
export type WorkDetail = Schemas["WorkDetail"];
export type Photo = Schemas["PhotoView"];
export type Crew = Schemas["CrewView"];
export type Due = Schemas["DueView"];
export type WorkState = Schemas["AlarmView"]["work"];

/** Somebody has still something to do, in this order. */
export const OPEN: readonly WorkState[] = ["REJECTED", "DISPATCHED", "ACCEPTED", "ON_SITE", "DONE", "VERIFYING"];
/** The crew has: nothing was reported as done yet. */
export const UNDONE: ReadonlySet<WorkState> = new Set(["REJECTED", "DISPATCHED", "ACCEPTED", "ON_SITE"]);
