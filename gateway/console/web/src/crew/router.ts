// The few places of the crew page.
import { createRouter, createWebHistory } from "vue-router";

import WaitingPage from "./WaitingPage.vue";
import WorkList from "./WorkList.vue";
import WorkPage from "./WorkPage.vue";

export const router = createRouter({
  history: createWebHistory("/crew"),
  routes: [
    { path: "/", component: WorkList },
    { path: "/waiting", component: WaitingPage },
    { path: "/:asset/:rule", component: WorkPage, props: true },
    { path: "/:rest(.*)*", redirect: "/" },
  ],
  scrollBehavior: (_to, _from, saved) => saved ?? { top: 0 },
});

export function addressOf(alarm: string): string {
  const [asset = "", rule = ""] = alarm.split("/");
  return `/${encodeURIComponent(asset)}/${encodeURIComponent(rule)}`;
}
