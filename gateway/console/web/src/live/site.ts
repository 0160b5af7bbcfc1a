// The city's name and time zone, and the ways in; known before anybody has signed in.
import { reactive } from "vue";

import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { timeZone } from "../i18n";

export type Ways = components["schemas"]["SignInWaysView"];

export const site = reactive({ name: { zh: "城市更夫", en: "citywatch" }, ways: null as Ways | null });

export async function loadSite(): Promise<void> {
  const ways = await ask(api.GET("/api/v1/sign-in-ways"));
  site.ways = ways;
  site.name = { zh: ways.site.name_zh, en: ways.site.name_en };
  timeZone.value = ways.site.timezone;
}
