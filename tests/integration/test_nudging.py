"""Nudges: a worker is told in the background, and a broker that hangs holds up no claim."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import current_app
from django.conf import settings
from redis import Redis

from coupons import services
from coupons.nudging import TASK, Nudger
from coupons.strategies import lua_async
from coupons.tasks import issue_claims
from events.models import Event
from tests.celery_kit import broker_at
from tests.factories import make_user
from tests.outages import silent_server


@pytest.fixture
def broker() -> Iterator[Redis]:
    """The broker's Redis, empty."""
    client = Redis.from_url(settings.BROKER_URL)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


def test_the_name_a_nudge_calls_is_that_of_the_task() -> None:
    assert issue_claims.name == TASK


def nudged_event(broker: Redis) -> int:
    """The event of the next message."""
    popped: Any = broker.brpop(["celery"], timeout=10)
    assert popped is not None
    message = json.loads(popped[1])
    assert message["headers"]["task"] == TASK
    (event_id,), _, _ = json.loads(base64.b64decode(message["body"]))
    return int(event_id)


def test_a_nudge_arrives_at_the_broker(broker: Redis) -> None:
    Nudger().nudge(7)
    assert nudged_event(broker) == 7


def test_a_claim_nudges(sale: Callable[..., Event], broker: Redis) -> None:
    event = sale()
    services.claim(event_id=event.id, user_id=make_user().id)
    assert nudged_event(broker) == event.id


class Held(Nudger):
    """A nudger whose publishing stands still until it is let go, as with a broker that hangs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.publishing, self.let_go = threading.Event(), threading.Event()
        self.sent: list[int] = []
        self.all_sent = threading.Event()
        self.expected = 0
        monkeypatch.setattr(current_app, "send_task", self._send)

    def _send(self, name: str, arguments: tuple[int], **options: object) -> None:
        assert (name, options["retry"]) == (TASK, False)
        self.publishing.set()
        assert self.let_go.wait(30)
        self.sent.append(arguments[0])
        if len(self.sent) == self.expected:
            self.all_sent.set()


def test_a_nudge_returns_while_the_publishing_hangs_and_many_become_one(monkeypatch: pytest.MonkeyPatch) -> None:
    nudger = Held(monkeypatch)
    nudger.expected = 3
    nudger.nudge(1)
    assert nudger.publishing.wait(10)
    for _ in range(100):  # each returns: nothing lets the publishing go before the last of them
        nudger.nudge(1)
        nudger.nudge(2)
    assert nudger.sent == []
    nudger.let_go.set()
    assert nudger.all_sent.wait(10)
    assert nudger.sent[0] == 1
    assert sorted(nudger.sent) == [1, 1, 2], "one message under way, one an event behind it"


def test_a_claim_is_answered_while_the_broker_hangs(
    sale: Callable[..., Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    nudger = Held(monkeypatch)
    monkeypatch.setattr(lua_async, "nudger", nudger)
    event = sale(quantity=5)
    nudger.expected = 1
    first, second = make_user(), make_user()
    services.claim(event_id=event.id, user_id=first.id)
    assert nudger.publishing.wait(10), "the nudge was under way, and hung"
    assert services.claim(event_id=event.id, user_id=second.id).claim.id.sequence == 2
    assert nudger.sent == []
    nudger.let_go.set()
    assert nudger.all_sent.wait(10)


def test_a_broker_that_takes_connections_and_never_answers_holds_up_nobody() -> None:
    nudger = Nudger()
    with silent_server() as listener, broker_at(f"redis://127.0.0.1:{listener.getsockname()[1]}/0"):
        nudger.nudge(1)
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1), "the publishing waits for an answer that does not come"
            nudger.nudge(2)
            assert nudger._events == {2}, "and so this one waits for it; its caller does not"


def test_a_nudge_that_is_lost_does_not_end_the_nudging(monkeypatch: pytest.MonkeyPatch) -> None:
    lost, sent = threading.Event(), threading.Event()

    def send(_: str, arguments: tuple[int], **__: object) -> None:
        if arguments == (1,):
            lost.set()
            raise ConnectionError
        sent.set()

    monkeypatch.setattr(current_app, "send_task", send)
    nudger = Nudger()
    nudger.nudge(1)
    assert lost.wait(10)
    nudger.nudge(2)
    assert sent.wait(10)
