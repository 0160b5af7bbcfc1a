// How far an order is: the steps of its present round with their times, and those that are still to come.
import type { Order, WorkState } from "./types";

export interface Step {
  readonly state: Exclude<WorkState, "NONE">;
  /** null: still to come. */
  readonly at: string | null;
  readonly by: string | null;
  /** What the crew's phone said, where that is not nearly the same. */
  readonly deviceAt: string | null;
}

const NEARLY_MS = 60_000;

export function timeline(order: Order, work: WorkState): Step[] {
  const step = (state: Step["state"], at: string | null, by: string | null, said: string | null = null): Step => ({
    state, at, by, deviceAt: at !== null && said !== null && Date.parse(at) - Date.parse(said) > NEARLY_MS ? said : null,
  });
  const steps = [step("DISPATCHED", order.since, order.by)];
  if (order.accepted_at !== null) steps.push(step("ACCEPTED", order.accepted_at, order.accepted_by, order.accepted_device_at));
  if (work === "REJECTED") return [...steps, step("REJECTED", order.refused_at, order.refused_by, order.refused_device_at)];
  const closed = work === "CLOSED";
  if (order.accepted_at === null && !closed) steps.push(step("ACCEPTED", null, null));
  if (order.on_site_at !== null) steps.push(step("ON_SITE", order.on_site_at, order.on_site_by, order.on_site_device_at));
  else if (order.done_at === null && !closed) steps.push(step("ON_SITE", null, null));
  if (order.done_at !== null) steps.push(step("DONE", order.done_at, order.done_by, order.done_device_at));
  else if (!closed) steps.push(step("DONE", null, null));
  if (order.verify_since !== null && work !== "DONE") steps.push(step("VERIFYING", order.verify_since, null));
  steps.push(step("CLOSED", order.closed_at, order.closed_by));
  return steps;
}
