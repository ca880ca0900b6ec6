"""Webhooks, with a real receiver that fails on purpose: signed, tried again, given up, replayed."""

import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone
from prometheus_client import REGISTRY

from notifications import delivering, outbound
from notifications.channels import CHANNELS, webhook
from notifications.models import Delivery, Notification, SilentTarget, WebhookEndpoint
from notifications.services import Fact, notify
from tests.factories import make_user
from tests.receivers import Received, Receiver, certificate, receiving

pytestmark = pytest.mark.django_db(transaction=True)

Kind = Notification.Kind
DOCS = Path(__file__).resolve().parent.parent.parent / "docs" / "notifications.md"


@pytest.fixture(autouse=True)
def _quick(settings: Any) -> None:
    settings.OUTBOUND_PRIVATE = True
    settings.OUTBOUND_TIMEOUT = 0.3
    settings.DELIVERY_BACKOFF = 0.01
    settings.DELIVERY_ATTEMPTS = 3


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def endpoint_of(receiver: Receiver) -> WebhookEndpoint:
    secret = webhook.new_secret()
    return WebhookEndpoint.objects.create(name="shop", url=receiver.url, secret=secret, kinds=[Kind.COUPON_ISSUED])


def tell(number: int = 1) -> None:
    """Something happens, so many times; deliveries are there."""
    user = make_user()
    data = {"event_id": 7, "code": "AAAA"}
    first = Notification.objects.count()
    notify(Kind.COUPON_ISSUED, [Fact(user.pk, f"7-1-{first + n}", data) for n in range(number)])
    delivering.fan_out()


def webhooks(**fields: Any) -> Any:
    return Delivery.objects.filter(channel="webhook", **fields).order_by("pk")


def work_until(condition: Callable[[], bool]) -> None:
    """Send what is due, as the worker does every second, until it is so."""
    until(lambda: delivering.deliver("webhook") >= 0 and condition())


def until(condition: Callable[[], bool]) -> None:
    """Wait for it; there is nothing to be told by."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, list(webhooks().values())
        time.sleep(0.005)


def accepted(secret: str, received: Received) -> bool:
    """By the code that docs/notifications.md gives to receivers."""
    code = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[0]
    given: dict[str, Any] = {}
    exec(code, given)  # noqa: S102 - ours
    answer: bool = given["is_ours"](secret, received.headers, received.body)
    return answer


def test_an_endpoint_is_told_what_happened(receiver: Receiver) -> None:
    endpoint = endpoint_of(receiver)
    tell()
    assert delivering.deliver("webhook") == 1
    (received,) = receiver.received
    told = Notification.objects.get()
    assert received.json["type"] == "coupon_issued"
    assert received.json["data"] == {
        "notification_id": told.pk,
        "user_id": told.user_id,
        "event_id": 7,
        "code": "AAAA",
    }
    assert received.headers["webhook-id"] == f"{told.pk}-webhook-{endpoint.pk}"
    delivery = webhooks().get()
    assert (delivery.status, delivery.attempts, delivery.error) == ("sent", 1, "")
    assert delivery.finished_at is not None
    assert delivering.deliver("webhook") == 0
    assert len(receiver.received) == 1


def test_the_signature_holds_for_this_message_now_and_nothing_else(receiver: Receiver) -> None:
    endpoint = endpoint_of(receiver)
    tell()
    delivering.deliver("webhook")
    (received,) = receiver.received
    assert accepted(endpoint.secret, received)
    assert not accepted(webhook.new_secret(), received), "another's secret"
    then = int(time.time()) - 301
    old = webhook.signature(
        endpoint.secret, message_id=received.headers["webhook-id"], timestamp=then, body=received.body
    )
    replayed = {**received.headers, "webhook-timestamp": str(then), "webhook-signature": old}
    for forged in (
        Received(received.path, replayed, received.body),
        Received(received.path, received.headers, received.body.replace(b"AAAA", b"BBBB")),
        Received(received.path, {**received.headers, "webhook-timestamp": str(int(time.time()) + 1)}, received.body),
        Received(received.path, {**received.headers, "webhook-id": "1-webhook-1"}, received.body),
    ):
        assert not accepted(endpoint.secret, forged)


def test_negative_control_an_unsigned_message_is_not_accepted(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = endpoint_of(receiver)
    monkeypatch.setattr(webhook, "signature", lambda *_, **__: "v1,")
    tell()
    delivering.deliver("webhook")
    assert not accepted(endpoint.secret, receiver.received[0])


def test_who_fails_is_tried_again_with_the_same_id_until_it_works(receiver: Receiver, settings: Any) -> None:
    settings.DELIVERY_ATTEMPTS = 10
    endpoint_of(receiver)
    receiver.script.extend([500, "reset", "hang", 503, "drip", 302, 200])
    tell()
    work_until(lambda: webhooks(status="sent").exists())
    assert len(receiver.received) == 7, "a redirect is not followed, either"
    assert len(set(receiver.ids)) == 1
    delivery = webhooks().get()
    assert (delivery.attempts, delivery.error) == (7, "")
    assert not SilentTarget.objects.exists()


def test_after_so_many_tries_a_delivery_is_dead_and_can_be_replayed(receiver: Receiver) -> None:
    endpoint_of(receiver)
    receiver.always = 500
    tell()
    work_until(lambda: webhooks(status="dead").exists())
    delivery = webhooks().get()
    assert (delivery.attempts, delivery.error) == (3, "HTTP 500")
    assert delivering.deliver("webhook") == 0
    assert len(receiver.received) == 3
    receiver.always = 200
    assert delivering.replay(webhooks()) == 1
    assert delivering.deliver("webhook") == 1
    assert len(set(receiver.ids)) == 1
    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts, delivery.error) == ("sent", 1, "")


def test_every_try_is_counted_by_what_came_of_it_and_timed(receiver: Receiver) -> None:
    def counted() -> dict[str, float]:
        found = {one: value("seonchak_deliveries_total", outcome=one) for one in ("sent", "failed", "dead")}
        return found | {"tries": value("seonchak_delivery_seconds_count")}

    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, {"channel": "webhook", **labels}) or 0.0

    endpoint_of(receiver)
    receiver.script.extend([500, 500, 500, 200])
    before = counted()
    tell()
    work_until(lambda: webhooks(status="dead").exists())
    delivering.replay(webhooks())
    delivering.deliver("webhook")
    assert {one: number - before[one] for one, number in counted().items()} == {
        "sent": 1,
        "failed": 2,
        "dead": 1,
        "tries": 4,
    }


def test_gone_means_never_again(receiver: Receiver) -> None:
    endpoint_of(receiver)
    receiver.always = 410
    tell()
    delivering.deliver("webhook")
    assert (webhooks().get().status, webhooks().get().attempts) == ("dead", 1)


def test_the_pauses_double_and_have_an_end(settings: Any) -> None:
    settings.DELIVERY_BACKOFF = 5
    hour = timedelta(hours=1)
    for failures, most in ((1, 5), (2, 10), (5, 80), (30, 3600), (10_000, 3600)):
        pauses = {delivering.pause(failures, longest=hour).total_seconds() for _ in range(100)}
        assert most / 2 <= min(pauses) <= max(pauses) <= most
        assert len(pauses) > 90, "what failed together must not come back together"


def test_an_endpoint_that_does_not_answer_is_asked_by_one_delivery_only(receiver: Receiver, settings: Any) -> None:
    settings.DELIVERY_BACKOFF = 60
    endpoint_of(receiver)
    receiver.always = "reset"
    tell(30)
    assert delivering.deliver("webhook") == 0
    assert len(receiver.received) == 1
    assert [one.attempts for one in webhooks()] == [1] + [0] * 29, "a try that did not take place is none"
    silent = SilentTarget.objects.get()
    assert (silent.channel, silent.failures) == ("webhook", 1)
    receiver.always = 200
    assert delivering.deliver("webhook") == 0, "not before its time"
    SilentTarget.objects.update(retry_at=timezone.now())
    webhooks(attempts=1).update(next_try_at=timezone.now())
    assert delivering.deliver("webhook") == 30
    assert not SilentTarget.objects.exists()


def test_an_endpoint_that_hangs_holds_up_no_other(receiver: Receiver, settings: Any) -> None:
    settings.DELIVERY_BACKOFF = 60
    with receiving("hang") as hanging:
        endpoint_of(hanging)
        tell(50)
        endpoint_of(receiver)
        tell(50)
        started = time.monotonic()
        assert delivering.deliver("webhook") == 50
        assert time.monotonic() - started < 3
        assert (len(receiver.received), len(hanging.received)) == (50, 1)


def test_a_channel_that_hangs_takes_one_thread_of_a_worker(receiver: Receiver, settings: Any) -> None:
    settings.OUTBOUND_TIMEOUT, settings.DELIVERY_BACKOFF = 5, 60
    receiver.always = "hang"
    endpoint_of(receiver)
    tell(2)
    sent: list[int] = []

    def first() -> None:
        sent.append(delivering.deliver("webhook"))
        connection.close()

    running = threading.Thread(target=first)
    running.start()
    until(lambda: receiver.received != [])
    webhooks().update(next_try_at=timezone.now())
    started = time.monotonic()
    assert delivering.deliver("webhook") == 0
    assert delivering.deliver("websocket") == 2
    assert time.monotonic() - started < 2
    receiver.released.set()
    running.join(10)
    assert (sent, len(receiver.received)) == ([0], 1)


def test_two_workers_send_different_deliveries(receiver: Receiver) -> None:
    endpoint_of(receiver)
    tell(30)
    channel = CHANNELS["webhook"]
    first, second = delivering._take(channel), delivering._take(channel)
    assert (len(first), len(second)) == (20, 10)
    assert not {one.pk for one in first} & {one.pk for one in second}


def test_what_a_worker_took_and_died_with_is_sent_when_its_lease_is_over(receiver: Receiver) -> None:
    endpoint_of(receiver)
    tell()
    (taken,) = delivering._take(CHANNELS["webhook"])
    assert delivering.deliver("webhook") == 0
    assert taken.attempts == 1
    webhooks().update(next_try_at=timezone.now())  # the lease is over
    assert delivering.deliver("webhook") == 1
    assert webhooks().get().attempts == 2


@pytest.mark.parametrize("then", ["hang", 500])
def test_who_was_stopped_for_longer_than_the_lease_takes_nothing_back(receiver: Receiver, then: int | str) -> None:
    endpoint_of(receiver)
    tell(2)
    taken = delivering._take(CHANNELS["webhook"])
    webhooks().update(next_try_at=timezone.now())  # the lease is over
    assert delivering.deliver("webhook") == 2
    receiver.always = then
    assert delivering._try(CHANNELS["webhook"], taken) == 0
    assert {(one.status, one.attempts, one.error) for one in webhooks()} == {("sent", 2, "")}


def test_what_waits_for_an_endpoint_that_is_switched_off_is_told_so(receiver: Receiver) -> None:
    endpoint = endpoint_of(receiver)
    tell()
    WebhookEndpoint.objects.update(active=False)
    assert delivering.deliver("webhook") == 0
    assert (webhooks().get().status, webhooks().get().error) == ("dead", "the endpoint is switched off")
    assert delivering.waiting() == ["websocket"], "nobody is called for it again and again"
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(active=True)
    delivering.replay(webhooks())
    assert delivering.deliver("webhook") == 1


def test_what_every_worker_dies_of_is_given_up(receiver: Receiver) -> None:
    endpoint_of(receiver)
    tell()
    for _ in range(3):
        assert delivering._take(CHANNELS["webhook"])
        webhooks().update(next_try_at=timezone.now())
    assert delivering.deliver("webhook") == 0
    assert (webhooks().get().status, webhooks().get().error) == ("dead", "every try broke off")
    assert receiver.received == []


def test_what_is_too_late_is_not_sent(receiver: Receiver) -> None:
    endpoint_of(receiver)
    tell(2)
    first, second = Notification.objects.order_by("pk")
    Notification.objects.filter(pk=first.pk).update(data={"expires_at": "2026-01-01T00:00:00+00:00"})
    webhooks(notification=second).update(created_at=timezone.now() - timedelta(days=4))
    assert delivering.deliver("webhook") == 0
    assert {(one.status, one.error) for one in webhooks()} == {("dead", "too late")}
    assert receiver.received == []


def test_of_a_user_who_was_deactivated_meanwhile_nobody_is_told(receiver: Receiver) -> None:
    endpoint_of(receiver)
    tell()
    User.objects.update(is_active=False)
    assert delivering.deliver("webhook") == 0
    assert (webhooks().get().status, webhooks().get().error) == ("dead", "the user is deactivated")
    assert receiver.received == []


def test_what_nobody_fanned_out_for_long_is_too_late_as_well(receiver: Receiver) -> None:
    endpoint_of(receiver)
    notify(Kind.COUPON_ISSUED, [Fact(make_user().pk, "7-1-1")])
    Notification.objects.update(created_at=timezone.now() - timedelta(days=4))
    delivering.fan_out()
    assert delivering.deliver("webhook") == 0
    assert (webhooks().get().status, webhooks().get().error) == ("dead", "too late")


def test_what_was_too_late_can_be_replayed_all_the_same(receiver: Receiver) -> None:
    endpoint_of(receiver)
    tell()
    webhooks().update(created_at=timezone.now() - timedelta(days=4))
    delivering.deliver("webhook")
    assert webhooks().get().status == "dead"
    delivering.replay(webhooks())
    assert delivering.deliver("webhook") == 1
    assert len(receiver.received) == 1


def test_over_tls_the_receiver_must_be_who_it_says(settings: Any, tmp_path: Path) -> None:
    settings.OUTBOUND_TIMEOUT, settings.DELIVERY_BACKOFF = 5, 60
    file = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with receiving(tls=context) as receiver:
        endpoint_of(receiver)
        tell()
        assert delivering.deliver("webhook") == 0
        assert webhooks().get().error == "SSLCertVerificationError"
        assert receiver.received == []
        settings.OUTBOUND_CA = str(file)
        delivering.replay(webhooks())
        assert delivering.deliver("webhook") == 1
        WebhookEndpoint.objects.update(url=receiver.url.replace("127.0.0.1", "localhost"))
        delivering.replay(webhooks())
        assert delivering.deliver("webhook") == 0, "the certificate is of another name"
    assert len(receiver.received) == 1


def test_a_private_address_is_refused_when_it_is_connected_to(receiver: Receiver, settings: Any) -> None:
    """The name is as good as any; what it points to is not."""
    settings.OUTBOUND_PRIVATE = False
    endpoint = endpoint_of(receiver)
    for url in (f"https://localhost:{receiver.port}/", f"https://127.0.0.1:{receiver.port}/", receiver.url):
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(url=url)
        tell()
        delivering.deliver("webhook")
    assert {one.status for one in webhooks()} == {"dead"}
    assert [one.error for one in webhooks()] == [
        "It points to an address of a private network.",
        "It is an address of a private network.",
        "It must begin with https://.",
    ]
    assert receiver.received == []


def test_negative_control_without_the_guard_it_would_be_reached(
    receiver: Receiver, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.OUTBOUND_PRIVATE = False
    monkeypatch.setattr(outbound, "check", lambda _: None)
    endpoint_of(receiver)
    tell()
    delivering.deliver("webhook")
    assert receiver.received == [], "the check of the URL alone does not hold this up"
    monkeypatch.setattr(outbound, "is_allowed", lambda _: True)
    delivering.replay(webhooks())
    assert delivering.deliver("webhook") == 1
    assert len(receiver.received) == 1
