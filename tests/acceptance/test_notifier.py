"""The real notifier with a real worker, beat and broker: users are told, and who hangs holds up nobody else."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django_redis import get_redis_connection
from redis import Redis
from redis.client import PubSub

from coupons import services
from coupons.models import Coupon
from coupons.stock.store import StockStore
from events.models import Event
from notifications import live
from notifications.channels.webhook import new_secret
from notifications.models import Delivery, Notification, WebhookEndpoint
from tests.celery_kit import Processes, drained
from tests.factories import make_user
from tests.outages import silent_server
from tests.receivers import Mailbox, Receiver, mailing, receiving

Sale = Callable[..., Event]
Start = Callable[..., Processes]


@pytest.fixture
def start(transactional_db: None, tmp_path: Path) -> Iterator[Start]:
    """Start all of Celery's processes, with settings."""
    with Redis.from_url(settings.BROKER_URL) as broker:
        broker.flushdb()
        started: list[Processes] = []

        def run(**more: str) -> Processes:
            quick = {
                "OUTBOUND_PRIVATE": "true",
                "OUTBOUND_TIMEOUT": "5",
                "EMAIL_TIMEOUT": "5",
                "DELIVERY_BACKOFF": "0.2",
            }
            processes = Processes(tmp_path, **(quick | more))
            started.append(processes)
            for name in ("worker", "notifier", "beat"):
                processes.start(name)
            return processes

        yield run
        for processes in started:
            processes.end()
        broker.flushdb()


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mailing() as box:
        yield box


@pytest.fixture
def frames() -> Iterator["PubSub"]:
    """What the gates hear."""
    with closing(get_redis_connection("default").pubsub()) as listening:
        listening.subscribe(live.CHANNEL)
        assert listening.get_message(timeout=5)["type"] == "subscribe"
        yield listening


def heard(listening: "PubSub") -> list[Any]:
    found = []
    while message := listening.get_message(timeout=0.1):
        found += json.loads(message["data"])
    return found


def hook(receiver: Receiver) -> WebhookEndpoint:
    kinds = [Notification.Kind.COUPON_ISSUED]
    return WebhookEndpoint.objects.create(name="shop", url=receiver.url, secret=new_secret(), kinds=kinds)


def claim(event: Event, number: int) -> None:
    for one in range(number):
        services.claim(event_id=event.id, user_id=make_user(email=f"u{one}@example.com").pk)


def all_sent(number: int, *channels: str) -> Callable[[], bool]:
    return lambda: all(
        Delivery.objects.filter(channel=channel, status="sent").count() == number for channel in channels
    )


def test_who_gets_a_coupon_is_told_by_every_way_and_by_each_once(
    sale: Sale, start: Start, mailbox: Mailbox, frames: "PubSub"
) -> None:
    event = sale(quantity=20)
    with receiving() as receiver:
        receiver.script.extend([500, "reset", 500])
        hook(receiver)
        processes = start(EMAIL_URL=f"smtp://127.0.0.1:{mailbox.port}")
        claim(event, 20)
        processes.until(all_sent(20, "websocket", "email", "webhook"))
    codes = set(Coupon.objects.values_list("code", flat=True))
    assert len(codes) == 20
    told = {one.json["data"]["code"] for one in receiver.received}
    assert (told, len(set(receiver.ids))) == (codes, 20)
    assert len(receiver.received) == 23, "three were sent again, as the same ones"
    assert len({mail["Message-ID"] for mail in mailbox.mails}) == len(mailbox.mails) == 20
    shown = heard(frames)
    assert {frame["notification"]["data"]["code"] for _, frame in shown} == codes
    assert len(shown) == 20


def test_the_threads_of_a_notifier_give_their_connections_back(sale: Sale, start: Start, mailbox: Mailbox) -> None:
    """Eight threads and three connections: a thread that kept one would leave none to the others."""
    event = sale(quantity=20)
    with receiving() as receiver:
        hook(receiver)
        processes = start(EMAIL_URL=f"smtp://127.0.0.1:{mailbox.port}", DATABASE_POOL_SIZE="3")
        claim(event, 20)
        processes.until(all_sent(20, "websocket", "email", "webhook"))
    assert "OperationalError" not in processes.told()


def test_dead_channels_hold_up_neither_issuing_nor_each_other(
    sale: Sale, store: StockStore, start: Start, frames: "PubSub"
) -> None:
    event = sale(quantity=60)
    with silent_server() as smtp, receiving("hang") as hanging, receiving() as working:
        hook(hanging)
        working_hook = hook(working)
        processes = start(EMAIL_URL=f"smtp://127.0.0.1:{smtp.getsockname()[1]}", OUTBOUND_TIMEOUT="20")
        claim(event, 30)
        processes.until(drained(event, store, 30))
        processes.until(lambda: len(hanging.received) > 0)
        claim(event, 30)
        assert processes.until(drained(event, store, 60)) < 5
        processes.until(all_sent(60, "websocket"))
        processes.until(lambda: len(working.received) >= 20)
        sent = Delivery.objects.filter(status="sent").values_list("channel", "target").distinct()
        assert set(sent) == {("websocket", ""), ("webhook", str(working_hook.pk))}
    assert len(heard(frames)) == 60
