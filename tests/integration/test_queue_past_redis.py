"""Visits to the queue of a sale that has lost its Redis: they move it to the database, and go on there."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.utils import timezone
from redis.exceptions import RedisError

from coupons import direct, modes, services
from coupons.models import Reconciliation
from coupons.stock.store import bulk_store
from events import outage
from events import services as sales
from events.catalogue import catalogue
from events.errors import NoTicket, Unavailable
from events.models import Event, Ticket
from events.redis.breaker import Breaker
from events.waiting_room import past_redis, service
from events.waiting_room.checkpoint import checkpoint
from events.waiting_room.records import Numbers
from events.waiting_room.store import bulk_room_store
from tests.api_kit import Caller, forge, problem_of
from tests.factories import make_user, make_users
from tests.faults.parts import Valkey
from tests.gate_kit import Told, ask, ask_at_once, claim, own_stock, request
from tests.outages import no_redis
from tests.postgres import until
from tests.sockets_kit import socket
from tests.web import Server

Sale = Callable[..., Event]
Start = Callable[..., Server]
Mode = Event.StockMode
ROOM = {"waiting_room": True, "quantity": 100, "admission_rate": 1, "max_active": 1}


@pytest.fixture
def room(sale: Sale) -> Event:
    """One is let in at a time, and Redis is borne with for ten seconds."""
    return sale(**ROOM, redis_lost_after=10)


def line_up(event: Event, number: int) -> list[int]:
    """Users in line, whom the database knows of."""
    users: list[int] = make_users(number)
    for user in users:
        service.visit(event.id, user, 1, "join")
    checkpoint(event.id, bulk_room_store())
    return users


def mode(event: Event) -> str:
    event.refresh_from_db()
    return event.stock_mode


def visit(event: Event, user: int, act: Any) -> None:
    if act == "leave":
        service.leave(event.id, user, 1)
    else:
        service.visit(event.id, user, 1, act)


# Moving the sale ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["join", "ask", "leave"])
def test_a_visit_moves_the_sale_when_redis_has_been_silent_for_as_long_as_it_bears(room: Event, act: str) -> None:
    first, second = line_up(room, 2)
    with no_redis():
        with patch.object(Breaker, "failing_for", return_value=9.9), pytest.raises(Unavailable):
            visit(room, second, act)
        assert (mode(room), room.epoch) == (Mode.REDIS, 1)
        with patch.object(Breaker, "failing_for", return_value=10.0):
            visit(room, second, act)
        assert (mode(room), room.epoch) == (Mode.DATABASE, 2)
        assert room.fell_back_at is not None
        assert Reconciliation.objects.get().kind == "outage"
        catalogue.refresh()
        assert service.visit(room.id, first, 1, "ask").status == "admitted"
        if act == "leave":
            with pytest.raises(NoTicket):
                service.visit(room.id, second, 1, "ask")
        else:
            assert service.visit(room.id, second, 1, "ask").ahead == 0


def test_before_the_opening_and_while_paused_it_has_time_and_the_first_visit_after_it_moves_it(sale: Sale) -> None:
    soon = timezone.now() + timedelta(minutes=5)
    before, paused = (sale(**ROOM, redis_lost_after=0, **more) for more in ({"opens_at": soon}, {}))
    users = {event.id: line_up(event, 1)[0] for event in (before, paused)}
    sales.pause(event_id=paused.id)
    with no_redis():
        catalogue.refresh()
        for event in (before, paused):
            with pytest.raises(Unavailable, match="Your place is kept"):
                service.visit(event.id, users[event.id], 1, "ask")
            assert mode(event) == Mode.REDIS
        Event.objects.filter(pk=before.id).update(opens_at=timezone.now())
        Event.objects.filter(pk=paused.id).update(status="published")
        catalogue.refresh()
        for event in (before, paused):
            assert service.visit(event.id, users[event.id], 1, "ask").status == "admitted"
            assert mode(event) == Mode.DATABASE


def test_the_more_wait_the_later_those_come_again_who_cannot_be_answered(room: Event) -> None:
    known = catalogue.get(room.id)
    assert known is not None

    def told(waiting: int) -> list[float]:
        event, after = replace(known, numbers=Numbers(0, waiting)), []
        for _ in range(100):
            with pytest.raises(Unavailable) as refused:
                service.require_lost(event, RedisError())
            after.append(refused.value.retry_after)
        return after

    few, some, many = told(0), told(5000), told(1_000_000)
    assert 1 <= min(few) < max(few) <= 3
    assert 5 <= min(some) < max(some) <= 15
    assert 10 <= min(many) < max(many) <= 30


def test_without_the_rule_a_moment_without_redis_would_move_the_sale(room: Event) -> None:
    """The negative control."""
    (user,) = line_up(room, 1)
    with no_redis(), patch.object(outage, "is_lost", return_value=True):
        service.visit(room.id, user, 1, "ask")
    assert mode(room) == Mode.DATABASE


def test_a_visit_that_has_not_heard_that_the_sale_is_back_is_asked_to_come_again(room: Event) -> None:
    (user,) = line_up(room, 1)
    known = catalogue.get(room.id)
    assert known is not None
    modes.fall_back(room.id, epoch=1)
    catalogue.refresh()
    fallen = catalogue.get(room.id)
    assert fallen is not None
    modes.sell_from_redis(room.id, bulk_store())
    for stale in (known, fallen):
        with pytest.raises(Unavailable):
            past_redis.visit(stale, user, joins=False)
        with pytest.raises(Unavailable):
            past_redis.leave(stale, user)
    assert mode(room) == Mode.REDIS
    assert Ticket.objects.get(user=user).gone_at is None


# Few at a time --------------------------------------------------------------------------------------------------------


def test_when_all_places_are_taken_a_visit_is_refused_at_once_and_a_claim_is_not(
    room: Event, django_assert_num_queries: Any
) -> None:
    first, second = line_up(room, 2)
    modes.fall_back(room.id, epoch=1)
    catalogue.refresh()
    with ExitStack() as places:
        for _ in range(past_redis.PLACES):
            places.enter_context(past_redis.place())
        caller, path = Caller(token=forge(user_id=second)), f"/api/v1/events/{room.id}/queue"
        for ask_so in (caller.get, caller.post):
            with django_assert_num_queries(0):
                refused = ask_so(path)
            assert problem_of(refused, "unavailable")
            assert 5 <= int(refused["Retry-After"]) <= 15
        assert services.claim(event_id=room.id, user_id=first).claim.status == "issued"
    with direct.slot(), direct.slot():
        assert service.visit(room.id, second, 1, "ask").number == 2


# Both lanes, and a Redis that is really gone --------------------------------------------------------------------------


@pytest.fixture
def stock(transactional_db: None, tmp_path: Path) -> Iterator[Valkey]:
    with own_stock(tmp_path) as valkey:
        yield valkey


def queue(event: Event, method: str, user: int) -> bytes:
    return request(method, f"/api/v1/events/{event.id}/queue", user)


def answered(server: Server, message: bytes) -> Told:
    """The first answer that is no refusal to answer now; each of those is quick."""
    answers: list[Told] = []

    def is_told() -> bool:
        started = time.monotonic()
        answers.append(ask(server, message))
        assert time.monotonic() - started < 1, "P8"
        assert answers[-1].status != 503 or int(answers[-1].reply.header("retry-after") or 0) >= 1
        return answers[-1].status != 503

    until(is_told)
    return answers[-1]


@pytest.mark.parametrize(("lane", "way"), [("web", "killed"), ("gate", "frozen")])
def test_a_sale_of_which_nobody_claims_goes_on_for_those_who_wait_and_comes_back(
    stock: Valkey, server: Start, sale: Sale, lane: str, way: str
) -> None:
    event = sale(**ROOM, redis_lost_after=1)
    serving = server(lane, STOCK_REDIS_URL=stock.url, DATABASE_REQUEST_TIMEOUT="5")  # it is well, on a busy machine too
    stranger = make_user().pk
    first, second, third = line_up(event, 3)
    assert ask(serving, queue(event, "GET", second)).body["status"] == "waiting"
    {"killed": stock.kill, "frozen": stock.stop}[way]()
    away_since = time.monotonic()
    assert ask(serving, queue(event, "GET", second)).code == "unavailable"
    assert mode(event) == Mode.REDIS, "not before its time"
    assert answered(serving, queue(event, "GET", first)).body["status"] == "admitted"
    assert time.monotonic() - away_since >= 1
    assert mode(event) == Mode.DATABASE
    assert ask(serving, queue(event, "DELETE", third)).status == 204
    told = {
        "who joins now": ask(serving, queue(event, "POST", stranger)),
        "who waits": ask(serving, queue(event, "POST", second)),
        "who left": ask(serving, queue(event, "GET", third)),
        "who is in": ask(serving, claim(event.id, first)),
        "who has claimed": ask(serving, queue(event, "GET", first)),
    }
    assert {who: (one.status, one.code) for who, one in told.items()} == {
        "who joins now": (503, "unavailable"),
        "who waits": (200, ""),
        "who left": (404, "not_found"),
        "who is in": (201, ""),
        "who has claimed": (409, "already_claimed"),
    }
    assert told["who has claimed"].body["claim"]["id"] == told["who is in"].body["id"]

    stock.heal()
    modes.sell_from_redis(event.id, bulk_store())
    back = answered(serving, queue(event, "GET", second)).body
    assert (back["status"], back["number"]) == ("admitted", 2)
    assert answered(serving, claim(event.id, second)).status == 202


def test_a_socket_is_told_of_the_ticket_all_the_same(stock: Valkey, server: Start, sale: Sale) -> None:
    event, gate = sale(**ROOM, redis_lost_after=0), server("gate", STOCK_REDIS_URL=stock.url)
    _, second = line_up(event, 2)
    path = f"/ws/events/{event.id}"
    with socket(gate.port, path) as client:  # one that is read: who connects with a token only listens
        client.identify(second)
        assert client.hear_until("ticket")["number"] == 2
        stock.kill()

        def is_told_again() -> bool:
            client.identify(second)
            with suppress(TimeoutError):  # the database may have taken too long, which the REST API would say
                return bool(client.hear_until("ticket")["number"] == 2) and mode(event) == Mode.DATABASE
            return False

        until(is_told_again)


def test_a_crowd_that_polls_the_database_is_refused_at_once_beyond_the_places_and_claims_go_on(
    stock: Valkey, server: Start, sale: Sale
) -> None:
    event, gate = sale(**{**ROOM, "max_active": 50}, redis_lost_after=0), server("gate", STOCK_REDIS_URL=stock.url)
    users = line_up(event, 60)
    stock.kill()
    assert answered(gate, queue(event, "GET", users[0])).body["status"] == "admitted"
    catalogue.refresh()
    started = time.monotonic()
    polls = [queue(event, "GET", user) for user in users[10:]] * 6
    told = ask_at_once(gate, [*polls, *[claim(event.id, user) for user in users[:2]]])
    assert time.monotonic() - started < 3
    assert set(Counter(one.status for one in told[:-2])) == {200, 503}
    assert [one.status for one in told[-2:]] == [201, 201], "those whose turn it is have places of their own"
