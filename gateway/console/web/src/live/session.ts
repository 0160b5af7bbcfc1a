// Who sits here, and what they may do.
import { computed, reactive } from "vue";

import { api, ask, Problem } from "../api/client";
import type { components } from "../api/schema";

export type Who = components["schemas"]["WhoView"];
export type Role = Who["role"];

/** Each may do what the ones before it may. */
export const ROLES: readonly Role[] = ["viewer", "operator", "maintainer", "supervisor", "engineer", "admin"];

/** ``known``: we have asked the gateway once. */
export const session = reactive({ who: null as Who | null, known: false });

export const signedIn = computed(() => session.who !== null);

/** May the one who sits here do what needs ``role``? The gateway decides in the end; this only spares a refusal. */
export function may(role: Role): boolean {
  return session.who !== null && ROLES.indexOf(session.who.role) >= ROLES.indexOf(role);
}

/** Ask who we are. A gateway that is not there raises its Problem. */
export async function recognise(): Promise<Who | null> {
  try {
    session.who = await ask(api.GET("/api/v1/session"));
  } catch (problem) {
    if (!(problem instanceof Problem) || problem.status !== 401) throw problem;
    session.who = null;
  }
  session.known = true;
  return session.who;
}

export async function signIn(body: { name: string; password: string } | { token: string }): Promise<Who> {
  session.who = await ask(api.POST("/api/v1/session", { body: body as never }));
  session.known = true;
  return session.who;
}

export async function signOut(): Promise<void> {
  try {
    await api.DELETE("/api/v1/session");
  } finally {
    session.who = null;
  }
}
