// To whom work can be given, as the routes name them; asked for once, and anew after a while.
import { shallowRef } from "vue";

import { api, ask } from "../api/client";
import { said } from "../i18n";
import type { Crew } from "./types";

const STALE_MS = 5 * 60_000; // who is on duty changes by the hour

export const crews = shallowRef<Crew[]>([]);
let askedAt = Number.NEGATIVE_INFINITY;

/** Raises the Problem. */
export async function loadCrews(now = Date.now()): Promise<void> {
  if (now - askedAt < STALE_MS) return;
  crews.value = await ask(api.GET("/api/v1/crews"));
  askedAt = now;
}

/** What people call a person, team or rota; one that the routes do not know is called as it is. */
export function crewName(name: string): string {
  return said(crews.value.find((one) => one.name === name)?.title) || name;
}
