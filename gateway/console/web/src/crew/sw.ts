// Keeps the crew page on the phone: the page, its scripts, styles and icons, as they were built together. Everything else,
// the gateway's API above all, goes to the network as if this were not here: what may be read without one keeps crew/store.ts.
import { cleanupOutdatedCaches, createHandlerBoundToURL, precacheAndRoute, type PrecacheEntry } from "workbox-precaching";
import { NavigationRoute, registerRoute } from "workbox-routing";

declare const self: ServiceWorkerGlobalScope;
/** Put in by the build (vite.config.ts): addresses with a digest where the address itself has none. */
declare const SHELL: PrecacheEntry[];

precacheAndRoute(SHELL);
cleanupOutdatedCaches();
registerRoute(new NavigationRoute(createHandlerBoundToURL("/crew/index.html"), { allowlist: [/^\/crew(\/|$)/] }));

self.addEventListener("message", (event) => {
  if (event.data === "take over") void self.skipWaiting();
});
