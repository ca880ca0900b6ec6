"""Web Push: what a push service gets, a browser can read, and is signed by us."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from django.core.management import call_command
from django.utils import timezone

from notifications import delivering
from notifications.models import Delivery, Notification, PushSubscription
from notifications.services import Fact, notify
from notifications.subscriptions import MOST
from tests.api_kit import Caller, problem_of
from tests.factories import make_user
from tests.push_kit import Browser, encoded
from tests.receivers import Received, Receiver, receiving

pytestmark = pytest.mark.django_db(transaction=True)

Kind = Notification.Kind
PATH = "/api/v1/push/subscriptions"


@pytest.fixture(autouse=True)
def _set_up(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("vapid_key")
    settings.VAPID_PRIVATE_KEY = capsys.readouterr().out.strip()
    settings.VAPID_CONTACT = "mailto:ops@example.com"
    settings.OUTBOUND_PRIVATE = True
    settings.OUTBOUND_TIMEOUT = 1


@pytest.fixture
def service() -> Iterator[Receiver]:
    with receiving(201) as receiver:
        yield receiver


@dataclass
class Vapid:
    """The Authorization header of a push."""

    token: str
    key: str

    @classmethod
    def of(cls, received: Received) -> "Vapid":
        scheme, _, rest = received.headers["authorization"].partition(" ")
        assert scheme == "vapid"
        parts = dict(part.strip().split("=", 1) for part in rest.split(","))
        return cls(parts["t"], parts["k"])

    def claims(self, audience: str) -> Any:
        point = base64.urlsafe_b64decode(self.key + "==")
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        return jwt.decode(self.token, public, algorithms=["ES256"], audience=audience)


def subscribed(browser: Browser, user: Any = None) -> Caller:
    caller = Caller(user or make_user())
    assert caller.post(PATH, browser.json).status_code == 204
    return caller


def tell(user_id: int, key: str = "1", **data: Any) -> None:
    notify(Kind.ADMITTED, [Fact(user_id, f"{user_id}-{key}", data)])
    delivering.fan_out()


def test_a_browser_reads_it_and_the_service_knows_who_sent_it(service: Receiver, settings: Any) -> None:
    settings.DEFAULT_LANGUAGE, settings.PUBLIC_URL = "ko", "https://coupons.example.com"
    user, browser = make_user(), Browser(service)
    caller = subscribed(browser, user)
    key = caller.get("/api/v1/push/key").json()["public_key"]
    tell(user.pk)
    assert delivering.deliver("push") == 1
    (received,) = service.received
    told = Notification.objects.get()
    message = browser.read(received)
    assert set(message) == {"title", "body", "url", "id"}
    assert message["id"] == told.pk
    assert message["url"].startswith("https://coupons.example.com/")
    assert "차례" in message["title"]
    vapid = Vapid.of(received)
    assert vapid.key == key, "the one that the browser subscribed with"
    assert vapid.claims(f"http://127.0.0.1:{service.port}")["sub"] == "mailto:ops@example.com"
    with pytest.raises(jwt.InvalidAudienceError):
        vapid.claims("https://elsewhere.example")
    assert int(received.headers["ttl"]) == 4 * 3600


def test_a_push_is_kept_for_no_longer_than_the_turn_it_tells_of(service: Receiver) -> None:
    user = make_user()
    subscribed(Browser(service), user)
    tell(user.pk, expires_at=(timezone.now() + timedelta(seconds=60)).isoformat())
    delivering.deliver("push")
    assert 30 < int(service.received[0].headers["ttl"]) <= 60


def test_every_browser_of_the_user_is_told_and_nobody_else_s(service: Receiver) -> None:
    user = make_user()
    for name in "12":
        subscribed(Browser(service, name), user)
    subscribed(Browser(service, "other"))
    tell(user.pk)
    assert delivering.deliver("push") == 2
    assert {one.path for one in service.received} == {"/push/1", "/push/2"}


@pytest.mark.parametrize("status", [404, 410])
def test_a_subscription_that_its_browser_gave_up_is_removed(service: Receiver, status: int) -> None:
    user = make_user()
    subscribed(Browser(service), user)
    subscribed(Browser(service, "other"))
    service.script.append(status)
    tell(user.pk)
    delivering.deliver("push")
    assert [one.endpoint.rsplit("/", 1)[1] for one in PushSubscription.objects.all()] == ["other"]
    assert (Delivery.objects.get(channel="push").status, len(service.received)) == ("dead", 1)


def test_a_service_that_fails_is_asked_again(service: Receiver, settings: Any) -> None:
    settings.DELIVERY_BACKOFF = 60
    user = make_user()
    subscribed(Browser(service), user)
    service.script.extend([500, "reset"])
    tell(user.pk)
    for _ in range(3):
        delivering.deliver("push")
        Delivery.objects.filter(status="pending").update(next_try_at="2026-01-01T00:00Z")
    delivery = Delivery.objects.get(channel="push")
    assert (delivery.status, delivery.attempts) == ("sent", 3)
    assert len({one.headers["topic"] for one in service.received}) == 1
    assert PushSubscription.objects.exists()


def test_a_browser_that_is_removed_is_told_nothing_more(service: Receiver) -> None:
    user, browser = make_user(), Browser(service)
    caller = subscribed(browser, user)
    tell(user.pk)
    stranger = Caller(make_user())
    assert remove(stranger, browser.endpoint).status_code == 204
    assert PushSubscription.objects.exists(), "it is not theirs"
    for _ in range(2):
        assert remove(caller, browser.endpoint).status_code == 204
    assert not PushSubscription.objects.exists()
    delivering.deliver("push")
    assert service.received == []


def remove(caller: Caller, endpoint: str | None = None) -> Any:
    body = json.dumps({} if endpoint is None else {"endpoint": endpoint})
    return caller.client.delete(PATH, body, content_type="application/json", headers=caller._headers({}))


def test_without_naming_one_all_of_the_caller_s_are_removed(service: Receiver) -> None:
    user = make_user()
    for name in "12":
        caller = subscribed(Browser(service, name), user)
    subscribed(Browser(service, "other"))
    assert remove(caller).status_code == 204
    assert PushSubscription.objects.count() == 1


def test_who_signs_in_to_a_browser_next_takes_it_over(service: Receiver) -> None:
    first, second, browser = make_user(), make_user(), Browser(service)
    subscribed(browser, first)
    subscribed(browser, second)
    assert PushSubscription.objects.get().user == second


def test_what_was_for_the_user_before_is_not_shown_to_the_next(service: Receiver) -> None:
    first, second, browser = make_user(), make_user(), Browser(service)
    subscribed(browser, first)
    tell(first.pk)
    subscribed(browser, second)
    assert delivering.deliver("push") == 0
    assert service.received == []
    delivery = Delivery.objects.get(channel="push")
    assert (delivery.status, delivery.error) == ("dead", "the browser is another user's now")
    tell(second.pk)
    assert delivering.deliver("push") == 1, "it is still theirs"


def test_the_oldest_browser_makes_room(service: Receiver) -> None:
    user = make_user()
    for number in range(MOST + 1):
        subscribed(Browser(service, str(number)), user)
    names = {one.endpoint.rsplit("/", 1)[1] for one in PushSubscription.objects.all()}
    assert names == {str(number) for number in range(1, MOST + 1)}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("endpoint", "no URL"),
        ("endpoint", "https://user:password@example.com/"),
        ("keys.p256dh", encoded(b"\x04" + b"1" * 64)),
        ("keys.p256dh", "!"),
        ("keys.auth", encoded(b"short")),
        ("keys.auth", None),
    ],
)
def test_what_nothing_could_be_sent_to_is_refused(service: Receiver, field: str, value: Any) -> None:
    body: dict[str, Any] = Browser(service).json
    within, _, name = field.rpartition(".")
    (body[within] if within else body)[name] = value
    refused = Caller(make_user()).post(PATH, body)
    assert list(problem_of(refused, "invalid")["errors"]) == [field]
    assert not PushSubscription.objects.exists()


def test_an_address_of_our_network_is_refused_from_users(service: Receiver, settings: Any) -> None:
    settings.OUTBOUND_PRIVATE = False
    body = Browser(service).json | {"endpoint": "https://169.254.169.254/latest"}
    refused = Caller(make_user()).post(PATH, body)
    assert "private network" in problem_of(refused, "invalid")["errors"]["endpoint"][0]


def test_without_a_key_there_is_no_web_push(service: Receiver, settings: Any) -> None:
    settings.VAPID_PRIVATE_KEY = ""
    caller = Caller(make_user())
    problem_of(caller.get("/api/v1/push/key"), "not_found")
    problem_of(caller.post(PATH, Browser(service).json), "not_found")
    assert remove(caller).status_code == 204


def test_it_takes_a_user_who_is_there(service: Receiver) -> None:
    problem_of(Caller().post(PATH, Browser(service).json), "unauthenticated")
    gone = make_user()
    caller = Caller(gone)
    gone.delete()
    problem_of(caller.post(PATH, Browser(service).json), "unauthenticated")
