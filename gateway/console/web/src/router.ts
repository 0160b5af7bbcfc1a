// The pages and their addresses. Each is loaded when somebody opens it; the alarm list comes with the first load.
import { createRouter, createWebHistory, type RouteRecordRaw } from "vue-router";

import AlarmsPage from "./alarms/AlarmsPage.vue";
import type { Role } from "./live/session";

declare module "vue-router" {
  interface RouteMeta {
    /** The least role that sees the page; left out: everybody who is signed in. */
    role?: Role;
    /** Key of the page's name in `nav`. */
    name?: string;
    /** Without the frame: a big screen. */
    bare?: boolean;
  }
}

const routes: RouteRecordRaw[] = [
  { path: "/", redirect: "/alarms" },
  { path: "/alarms", component: AlarmsPage, meta: { name: "alarms" } },
  { path: "/map", component: () => import("./map/MapPage.vue"), meta: { name: "map" } },
  { path: "/assets", component: () => import("./asset/AssetsPage.vue"), meta: { name: "assets" } },
  { path: "/assets/:asset", component: () => import("./asset/AssetPage.vue"), props: true, meta: { name: "assets" } },
  { path: "/wall", component: () => import("./wall/WallPage.vue"), meta: { name: "wall", bare: true } },
  { path: "/work", component: () => import("./work/OpenWorkPage.vue"), meta: { name: "work" } },
  { path: "/journal", component: () => import("./journal/JournalPage.vue"), meta: { name: "journal" } },
  { path: "/shift", component: () => import("./journal/ShiftPage.vue"), meta: { name: "shift" } },
  { path: "/rules", component: () => import("./rules/RulesPage.vue"), meta: { name: "rules" } },
  { path: "/rules/:rule", component: () => import("./rules/RulePage.vue"), props: true, meta: { name: "rules" } },
  { path: "/devices", component: () => import("./devices/DevicesPage.vue"), meta: { name: "devices" } },
  { path: "/devices/:device", component: () => import("./devices/DevicePage.vue"), props: true, meta: { name: "devices" } },
  { path: "/system", component: () => import("./system/SystemPage.vue"), meta: { name: "system" } },
  { path: "/people", component: () => import("./system/PeoplePage.vue"), meta: { name: "people", role: "admin" } },
  { path: "/:rest(.*)*", component: () => import("./ui/NotFound.vue") },
];

export const router = createRouter({ history: createWebHistory(), routes });
