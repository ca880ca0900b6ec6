// Shows what the server pushes while no page is open, and leads to where it belongs.

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("push", (event) => {
  const { title, body, url, id } = event.data.json();
  const shown = { body, tag: `n${id}`, icon: "/static/pages/icon.svg", data: { url } };
  event.waitUntil(self.registration.showNotification(title, shown));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data.url));
});

/** In a tab that shows it already, otherwise in a new one. */
async function open(url) {
  const tabs = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const there = tabs.find((tab) => new URL(tab.url).pathname === new URL(url).pathname);
  return there ? there.focus() : self.clients.openWindow(url);
}
