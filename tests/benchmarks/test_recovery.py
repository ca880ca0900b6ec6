"""PostgreSQL is away for half a minute in the middle of a sale: what comes back when, and how hard it is asked then."""

import asyncio
import statistics
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from coupons.rush.client import Customer, Manners, Rush, clock
from coupons.rush.history import BILLION, Exchange, History, percentile
from coupons.stock.store import StockStore, bulk_store
from events import services
from events.models import Event
from tests.benchmarks.kit import Lookout, Spawn
from tests.factories import make_event, make_users
from tests.faults.parts import PostgreSQL, until
from tests.faults.system import System
from tests.outages import stock_at
from tests.sales import assert_sold_out_exactly

pytestmark = pytest.mark.benchmark

OUTAGE = 30  # seconds
NORMAL = (5, 20)  # seconds of the sale: the load of these is the normal one; then PostgreSQL goes away
BURST = 6  # seconds after its return in which the burst is looked for
ARRIVALS = 40  # users a second
LASTS = 80  # seconds
BACKLOG = 100_000


@pytest.fixture
def system(transactional_db: None, tmp_path: Path) -> Iterator[System]:
    with System(tmp_path) as running, stock_at(running.stock.url):
        yield running


@dataclass(frozen=True, slots=True)
class Load:
    """What a second of the sale is like."""

    transactions: float  # that PostgreSQL ended
    requests: float  # claims and polls that were answered
    told: float  # polls that were answered with a coupon: no transaction, where Redis has it still


class Transactions(Lookout):
    """How many transactions PostgreSQL ends, second by second."""

    every = 1

    def __init__(self, postgresql: PostgreSQL) -> None:
        super().__init__()
        self._postgresql = postgresql
        self.seen: list[tuple[float, int]] = []  # seconds of the clock, transactions so far

    def look(self) -> None:
        query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s"
        with suppress(psycopg.OperationalError), self._postgresql.connect() as own:  # while it is away
            (number,) = own.execute(query, [self._postgresql.database]).fetchone() or (0,)
            self.seen.append((clock() / BILLION, number))

    def rates(self, since: float, to: float) -> list[float]:
        """Transactions a second, in each second between the two."""
        inside = [one for one in self.seen if since <= one[0] <= to]
        return [(late[1] - early[1]) / (late[0] - early[0]) for early, late in pairwise(inside)]


def answers(system: System, customer: Customer) -> bool:
    """Whether a request that needs PostgreSQL is answered as ever."""
    request = urllib.request.Request(  # noqa: S310 - our own URL
        f"{system.url}/api/v1/coupons", headers={"Authorization": f"Bearer {customer.token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - as above
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def per_second(seen: Iterable[Exchange], since: float, to: float) -> float:
    """How many of them were answered in a second between the two, on the average."""
    return sum(one.status is not None and since <= one.answered_ns / BILLION < to for one in seen) / (to - since)


def test_half_a_minute_without_postgresql(system: System, report: Callable[[dict[str, object]], None]) -> None:
    customers = system.customers(ARRIVALS * LASTS)
    event = services.publish(event_id=make_event(quantity=len(customers)).id)
    store, history = bulk_store(), History()
    rush = Rush(
        url=system.url, event_id=event.id, customers=customers, history=history, over=LASTS, manners=Manners(tries=30)
    )
    with ThreadPoolExecutor(1) as threads, Transactions(system.postgresql) as transactions:
        began = clock() / BILLION
        load = threads.submit(asyncio.run, rush.run(follow_for=60))
        time.sleep(NORMAL[1])
        system.postgresql.shut_down("fast")
        down = clock() / BILLION
        time.sleep(OUTAGE)
        system.postgresql.start()
        back = clock() / BILLION
        connection.close()  # it was there before
        left = store.snapshot(event.id)
        until(lambda: answers(system, customers[0]), "a normal answer")
        answered = clock() / BILLION
        until(lambda: store.snapshot(event.id).drained >= left.sequence, "what waited is issued")
        drained = clock() / BILLION
        load.result(LASTS + 120)
    until(lambda: not store.snapshot(event.id).backlog, "the log is empty")
    assert_sold_out_exactly(store, event)

    during = [one for one in history if one.kind == "claim" and down <= one.asked_ns / BILLION <= back]
    told = [one for one in history if one.kind == "poll" and one.state == "issued"]
    figures: dict[str, object] = {
        "claims accepted while it was away": sum(one.accepted for one in during),
        "claims refused or unanswered meanwhile": sum(not one.accepted for one in during),
        "their p99": f"{percentile(sorted(one.seconds * 1000 for one in during), 99):.0f} ms",
        "claims in the log at its return": left.backlog,
        "seconds to the first normal answer": round(answered - back, 2),
        "seconds until what waited was issued": round(drained - back, 2),
    }
    loads = []
    for name, since, to in (
        ("normally", began + NORMAL[0], began + NORMAL[1]),
        (f"in {BURST} s after its return", back, back + BURST),
    ):
        rates = transactions.rates(since, to)
        load_then = Load(statistics.fmean(rates), per_second(history, since, to), per_second(told, since, to))
        loads.append(load_then)
        figures[f"transactions a second {name}"] = f"{load_then.transactions:.0f} (at most {max(rates):.0f})"
        figures[f"requests a second {name}"] = f"{load_then.requests:.0f}, {load_then.told:.0f} of them told a coupon"
    usual, burst = loads
    figures |= {
        "the burst, transactions a second": round(burst.transactions / usual.transactions, 2),
        "the burst, transactions a request": round(
            burst.transactions / burst.requests / (usual.transactions / usual.requests), 2
        ),
        "asked for": "≤ 1.2",
    }
    report(figures)


def test_a_long_log_after_an_outage(
    sale: Callable[..., Event], store: StockStore, spawn: Spawn, report: Callable[[dict[str, object]], None], tmp_path
) -> None:
    users = make_users(BACKLOG)
    event, first = sale(quantity=BACKLOG), users[0]
    spawn("celery", "-A", "config", "worker", "--concurrency", "2", "--without-mingle", "--loglevel", "ERROR")
    spawn("celery", "-A", "config", "beat", "--loglevel", "ERROR", BEAT_SCHEDULE_FILE=str(tmp_path / "beat"))
    store.reserve(event.id, epoch=event.epoch, claims=[(first, "")])
    until(lambda: not store.snapshot(event.id).backlog, "worker and beat are there")

    postgresql = PostgreSQL()
    postgresql.shut_down("fast")
    for start in range(1, BACKLOG, 500):
        store.reserve(event.id, epoch=event.epoch, claims=[(user, "") for user in users[start : start + 500]])
    waiting = store.snapshot(event.id).backlog
    time.sleep(OUTAGE)
    postgresql.start()
    back = clock() / BILLION
    connection.close()
    until(lambda: store.snapshot(event.id).backlog < waiting, "the first batch is issued")
    begun, left = clock() / BILLION, store.snapshot(event.id).backlog
    until(lambda: not store.snapshot(event.id).backlog, "the log is empty")
    ended = clock() / BILLION
    assert_sold_out_exactly(store, event)
    report(
        {
            "claims in the log": waiting,
            "seconds to the first batch": round(begun - back, 2),
            "seconds to the empty log": round(ended - back, 2),
            "claims drained a second": round(left / (ended - begun)),
            "asked for": "≥ 10,000",
        }
    )
