// The service worker that keeps the crew page itself on the phone (sw.ts). A new version is taken into use when the page is
// opened the next time: never under somebody's hands.

export function installed(): void {
  if (!import.meta.env.PROD || !("serviceWorker" in navigator)) return; // without TLS there is none
  void take().catch(() => undefined); // a browser that does not want to: the page works, as long as there is a network
}

async function take(): Promise<void> {
  const registration = await navigator.serviceWorker.register("/sw.js", { scope: "/crew" });
  const fresh = registration.waiting;
  if (fresh === null) return;
  navigator.serviceWorker.addEventListener("controllerchange", () => location.reload(), { once: true });
  fresh.postMessage("take over");
}
