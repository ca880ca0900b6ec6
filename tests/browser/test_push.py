"""Web Push in a real browser: all but the push service, which is the browser's maker's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import CDPSession

from config.embedded import push_key
from events.models import Event
from notifications import delivering
from notifications.models import Notification, PushSubscription
from notifications.services import Fact, notify
from notifications.subscriptions import subscribe
from tests.browser.conftest import Visit, Visitor
from tests.factories import make_user
from tests.push_kit import Browser
from tests.receivers import receiving

pytestmark = pytest.mark.browser
Sale = Callable[..., Event]

REGISTERED = "navigator.serviceWorker.getRegistrations().then((all) => all.length)"
REGISTER = """navigator.serviceWorker.register('/service-worker.js').then(() => navigator.serviceWorker.ready)
    .then(() => true)"""
SHOWN = """navigator.serviceWorker.ready.then((worker) => worker.getNotifications()).then((all) =>
    all.map(({ title, body, tag, data, timestamp }) => ({ title, body, tag, url: data.url, timestamp })))"""
# A browser that is asked for its notifications while it shows one may take that one away, so nobody asks before it has.
COUNT = """() => {
    self.shown = 0;
    const show = ServiceWorkerRegistration.prototype.showNotification;
    ServiceWorkerRegistration.prototype.showNotification = async function (...told) {
        await show.apply(this, told);
        self.shown++;
    };
}"""
COUNTED = """async (number) => {
    for (let n = 0; n < 3000 && self.shown < number; n++) await new Promise((resolve) => setTimeout(resolve, 10));
    if (self.shown < number) throw new Error("the worker showed nothing for 30 seconds");
}"""
# A click on a notification of the system is none that a test could make, nor may anything else open a window. So the
# worker is told of one, and what it then asks the browser for is written down.
CLICK = """async () => {
    const asked = [];
    self.clients.openWindow = async (url) => asked.push(["open", url]);
    WindowClient.prototype.focus = async function () { asked.push(["focus", this.url]); };
    const [notification] = await self.registration.getNotifications();
    self.dispatchEvent(new NotificationEvent("notificationclick", { notification }));
    for (let n = 0; n < 500 && asked.length === 0; n++) await new Promise((resolve) => setTimeout(resolve, 10));
    return [...asked, (await self.registration.getNotifications()).length];
}"""
# What a browser has of a push service, as far as the page knows it.
SUBSCRIBING = """(subscription) => {
    const unsubscribe = async () => delete localStorage.kept;
    const kept = () => (localStorage.kept ? { ...subscription, unsubscribe } : null);
    PushManager.prototype.getSubscription = async () => kept();
    PushManager.prototype.subscribe = async ({ applicationServerKey }) => {
        localStorage.kept = applicationServerKey;
        return kept();
    };
}"""


class Pusher:
    """The push service in its last step: it hands a message to the worker of a page, which shows it."""

    def __init__(self, visitor: Visitor) -> None:
        self._origin = visitor.base
        self._cdp: CDPSession = visitor.context.new_cdp_session(visitor.page)
        self._cdp.on("ServiceWorker.workerRegistrationUpdated", self._heed)
        self._registration = ""
        self._pushed = 0
        self._cdp.send("ServiceWorker.enable")
        while not self._registration or not visitor.context.service_workers:
            visitor.page.wait_for_timeout(20)
        (self.worker,) = visitor.context.service_workers
        self.worker.evaluate(COUNT)

    def _heed(self, told: dict[str, Any]) -> None:
        self._registration = told["registrations"][-1]["registrationId"]

    def push(self, message: Any) -> None:
        told = {"origin": self._origin, "registrationId": self._registration, "data": json.dumps(message)}
        self._cdp.send("ServiceWorker.deliverPushMessage", told)
        self._pushed += 1
        self.worker.evaluate(COUNTED, self._pushed)


@pytest.fixture
def reader(visit: Visit) -> Visitor:
    """Somebody whose browser has the service worker, and shows notifications."""
    one = visit()
    one.context.grant_permissions(["notifications"], origin=one.base)
    one.sign_in("/notifications")
    one.page.evaluate(REGISTER)
    return one


def test_what_is_delivered_is_shown_and_leads_to_the_sale(
    reader: Visitor, sale: Sale, settings: Any, tmp_path: Path
) -> None:
    settings.VAPID_PRIVATE_KEY, settings.OUTBOUND_PRIVATE = push_key(tmp_path), True
    settings.PUBLIC_URL, settings.DEFAULT_LANGUAGE = reader.base, "ko"
    event, user = sale(title="봄맞이 행사"), make_user()
    with receiving(201) as service:
        browser = Browser(service)
        subscribe(user_id=user.pk, endpoint=browser.endpoint, **browser.keys)
        notify(Notification.Kind.ADMITTED, [Fact(user.pk, "1", {"event_id": event.pk})])
        delivering.fan_out()
        assert delivering.deliver("push") == 1
        message = browser.read(service.received[0])
    pusher = Pusher(reader)
    pusher.push(message)
    (told,) = reader.page.evaluate(SHOWN)
    address = f"{reader.base}/events/{event.slug}"
    words = {"title": message["title"], "body": message["body"], "tag": f"n{message['id']}", "url": address}
    assert told == words | {"timestamp": told["timestamp"]}
    assert "봄맞이 행사" in told["title"]
    pusher.push(message)  # its answer was lost: it comes again
    (again,) = reader.page.evaluate(SHOWN)
    assert again["timestamp"] > told["timestamp"]
    assert pusher.worker.evaluate(CLICK) == [["open", address], 0]
    pusher.push(message)
    reader.open(f"/events/{event.slug}?lang=en")
    assert pusher.worker.evaluate(CLICK) == [["focus", f"{address}?lang=en"], 0]


def test_a_browser_is_subscribed_renewed_and_removed_by_a_button(visit: Visit) -> None:
    one = visit()
    one.context.grant_permissions(["notifications"], origin=one.base)
    with receiving() as nobody:
        subscription = Browser(nobody).json | {"endpoint": "https://push.example.com/1"}
    one.context.add_init_script(f"({SUBSCRIBING})({json.dumps(subscription)})")
    one.sign_in("/notifications")
    button = one.page.locator("#push button")
    button.click()
    one.page.wait_for_selector("#push button[aria-pressed=true]")
    user = User.objects.get()
    assert PushSubscription.objects.get().user == user
    # Another user was signed in here since, or the service has said that it was gone.
    PushSubscription.objects.all().delete()
    one.open("/notifications")
    one.page.wait_for_selector("#push button[aria-pressed=true]")
    assert PushSubscription.objects.get().user == user
    button.click()
    one.page.wait_for_selector("#push button[aria-pressed=false]")
    assert not PushSubscription.objects.exists()


def test_who_signs_out_leaves_nothing_in_the_browser_that_tells_of_them(reader: Visitor) -> None:
    reader.page.evaluate("localStorage.setItem('mine', 'x')")
    assert reader.page.evaluate(REGISTERED) == 1
    reader.page.get_by_role("button", name="Sign out").click()
    reader.page.wait_for_url(f"{reader.base}/")
    reader.page.wait_for_function(f"{REGISTERED}.then((number) => number === 0)")
    assert reader.page.evaluate("localStorage.getItem('mine')") is None
