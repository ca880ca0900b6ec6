// Web Push in this browser: on and off, by the button on the page of notifications. Nothing is shown where the browser
// or the server cannot.

const box = document.getElementById("push");
const button = box.querySelector("button");

async function call(method, address, body) {
  const { token } = await (await fetch(box.dataset.token, { cache: "no-store" })).json();
  const headers = { Accept: "application/json", Authorization: `Bearer ${token}` };
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(address, { method, headers, body: body && JSON.stringify(body), credentials: "omit" });
  if (!response.ok) throw new Error(String(response.status));
  return response.status === 204 ? null : response.json();
}

function show(state) {
  box.hidden = false;
  for (const words of box.querySelectorAll("[data-is]")) words.hidden = words.dataset.is !== state;
  button.hidden = state === "denied";
  button.textContent = state === "on" ? button.dataset.off : button.dataset.on;
  button.setAttribute("aria-pressed", String(state === "on"));
}

async function subscribe(registration, key) {
  if ((await Notification.requestPermission()) !== "granted") return show("denied");
  const subscription = await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
  await call("POST", box.dataset.subscriptions, subscription);
  return show("on");
}

async function unsubscribe(subscription) {
  await call("DELETE", box.dataset.subscriptions, { endpoint: subscription.endpoint });
  await subscription.unsubscribe();
  show("off");
}

async function start() {
  if (!("serviceWorker" in navigator) || !("PushManager" in window)) return;
  const { public_key: key } = await call("GET", box.dataset.key);
  const registration = await navigator.serviceWorker.register("/service-worker.js");
  const subscribed = () => registration.pushManager.getSubscription();
  const before = await subscribed();
  // What the browser remembers the server may have forgotten, or know as somebody else's who was signed in here.
  if (before) await call("POST", box.dataset.subscriptions, before);
  if (Notification.permission === "denied") show("denied");
  else show(before ? "on" : "off");
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const subscription = await subscribed();
      await (subscription ? unsubscribe(subscription) : subscribe(registration, key));
    } catch {
      show("failed");
    }
    button.disabled = false;
  });
}

start().catch(() => {}); // Web Push is not set up here
