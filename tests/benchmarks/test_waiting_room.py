"""The waiting room: what a million tickets weigh, what a visit costs, and what a core carries of those who wait."""

import json
import math
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from coupons.stock.store import StockStore
from events.models import Event
from events.waiting_room import keys
from events.waiting_room.codes import VisitCode
from events.waiting_room.records import Visit
from events.waiting_room.store import Rules, bulk_room_store
from tests.benchmarks.kit import Spawn
from tests.benchmarks.lanes import GATE, start, tokens
from tests.factories import make_users
from tests.servers import ROOT
from tests.stock_kit import EVENT, put_stock

pytestmark = pytest.mark.benchmark

GROUP = 500
MILLION = 1_000_000
ROUND = 20_000  # visits
CONNECTIONS = 64
WAITING, RATE = 100_000, 100  # people, and how many of them are let in a second
SECONDS = 10
SLOW = Rules(rate=1, max_active=1, pass_ttl=3600, grace=3600)  # whoever is in line stays there
FOLDER = ROOT / "docs" / "performance"


def queue(event_id: int, method: str, bearers: list[str]) -> list[bytes]:
    """A visit of each token."""
    length = "Content-Length: 0\r\n" if method == "POST" else ""
    return [
        f"{method} /api/v1/events/{event_id}/queue HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {token}\r\n{length}\r\n".encode()
        for token in bearers
    ]


def join(event_id: int, users: range, rules: Rules = SLOW) -> None:
    """Have them stand in line."""
    room = bulk_room_store()
    for first in range(users.start, users.stop, GROUP):
        room.visit(event_id, rules, [Visit("join", user, 1) for user in range(first, min(first + GROUP, users.stop))])


def polls_a_second(rate: int, waiting: int) -> float:
    """How often the server is asked by so many, as `visit.lua` tells them to: the sum of the turns' intervals.

    Who is `s` seconds from the turn asks again after min(30, s / 2), and at least `near`; who is nearer than that after
    max(near / 4, s); all of them up to 0.3 more by chance.
    """
    near, jitter = 1 + rate / 1000, 1.15
    middle = min(60.0, waiting / rate)
    close = rate * (1 + math.log(4) + 1)  # below near / 4, from there to near, and from there to 2 near
    return (close + rate * 2 * math.log(middle / (2 * near)) + max(0, waiting - 60 * rate) / 30) / jitter


def _memory(store: StockStore) -> int:
    """Bytes of Redis, once it has freed what is deleted: of the benchmark before this one, say."""
    while (told := store.client.info("memory"))["lazyfree_pending_objects"]:
        time.sleep(0.01)
    return int(told["used_memory"])


def write(figures: dict[str, Any]) -> None:
    """Into the figures of the documentation."""
    path = FOLDER / "waiting_room.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | figures, indent=2) + "\n")


def test_a_million_tickets(store: StockStore, report: Callable[..., None]) -> None:
    put_stock(store, MILLION, room=True)
    room = bulk_room_store()

    def cost() -> float:
        """Microseconds of Redis' processor a visit, in groups of 100 of whoever is there."""
        before: int = store.client.info("commandstats")["cmdstat_evalsha"]["usec"]
        number = int(store.client.hlen(keys.tickets(EVENT)))
        for _ in range(200):
            room.visit(EVENT, SLOW, [Visit("ask", random.randint(2, number), 1) for _ in range(100)])
        after: int = store.client.info("commandstats")["cmdstat_evalsha"]["usec"]
        return (after - before) / 20_000

    empty = _memory(store)
    join(EVENT, range(1, 1001))
    few = cost()
    started = time.perf_counter()
    join(EVENT, range(1001, MILLION + 1))
    seconds = time.perf_counter() - started
    many = cost()
    unsettled = _memory(store) - empty
    store.client.delete(keys.log(EVENT))  # as when the database knows everybody
    settled = _memory(store) - empty
    figures = {
        "memory of 1,000,000 tickets, MB": round(settled / 1e6, 1),
        "memory, with all in the log still, MB": round(unsettled / 1e6, 1),
        "Redis CPU a visit, 1,000 tickets, µs": round(few, 2),
        "Redis CPU a visit, 1,000,000 tickets, µs": round(many, 2),
        "script joins a second, groups of 500": round((MILLION - 1000) / seconds),
    }
    write(figures)
    report(figures)


def test_visits(sale: Callable[..., Event], redis: int, spawn: Spawn, report: Callable[..., None]) -> None:
    gate = start(GATE, spawn, redis=redis)
    users = make_users(ROUND)
    rounds: dict[str, list[tuple[float, float, float]]] = {"join": [], "poll": []}
    for number in range(4):
        event = sale(waiting_room=True, quantity=ROUND, admission_rate=1, max_active=1, pass_ttl=3600)
        bearers = tokens(users, f"queue-{number}")
        for what, method in (("join", "POST"), ("poll", "GET")):
            measured = gate.measure(queue(event.id, method, bearers), connections=CONNECTIONS)
            assert set(measured.load.statuses) == {200}, measured.load.statuses
            rounds[what].append((measured.load.rate, measured.server_cpu, measured.redis_cpu))
    figures = {
        f"{what}: {name}": round(sorted(one[place] for one in all_[1:])[1], 1)
        for what, all_ in rounds.items()
        for place, name in enumerate(("a second", "gate CPU, µs", "Redis CPU, µs"))
    }
    write(figures)
    report(figures)


def test_a_hundred_thousand_wait(
    sale: Callable[..., Event], redis: int, spawn: Spawn, report: Callable[..., None]
) -> None:
    """They ask as often as the server tells them to, for ten seconds, and whoever is called takes the pass."""
    gate = start(GATE, spawn, redis=redis)
    event = sale(waiting_room=True, quantity=WAITING, admission_rate=RATE, max_active=WAITING)
    rules = Rules(rate=RATE, max_active=WAITING, pass_ttl=120, grace=120)
    # Their ids are in no database: a ticket needs none.
    join(event.id, range(1, WAITING + 1), rules)
    rate = polls_a_second(RATE, WAITING)
    # Who asks: those who are near more often, as their intervals are.
    weights = [1 / max(1 + RATE / 1000, min(30.0, ahead / RATE / 2)) for ahead in range(WAITING)]
    asked = random.choices(range(1, WAITING + 1), weights, k=int(rate * SECONDS))
    requests = queue(event.id, "GET", tokens(asked, "wait"))
    measured = gate.measure(requests, connections=256, rate=rate)
    codes = bulk_room_store().visit(event.id, rules, [Visit("ask", WAITING, 1)]).visitors
    assert codes[0].code is VisitCode.WAITING
    figures = {
        f"polls a second of {WAITING:,} people at {RATE} a second, reckoned": round(rate),
        "of them answered 200": measured.load.statuses[200] / len(requests),
        "the gate's core is busy": round(measured.server_busy, 2),
        "load and Redis are busy": round(measured.other_busy, 2),
        "polls: p50 ms": round(measured.load.percentile(0.5), 2),
        "polls: p99 ms": round(measured.load.percentile(0.99), 2),
    }
    write(figures)
    report(figures)
