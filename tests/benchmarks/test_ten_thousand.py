"""Ten thousand at once, and a hundred thousand in one sale: all of them are answered, and none by an error.

One gate process, as `python -m config.serve gate` starts it, and one worker. The load, the servers and the processes
share the machine as they do in `make run`: nothing is pinned. Latencies are those that the load generator sees, one
Python process that takes ten thousand answers itself.
"""

import time
from collections import Counter
from collections.abc import Callable

import psutil
import pytest

from config.embedded import free_port
from coupons.models import Coupon
from coupons.stock.store import StockStore
from events.models import Event
from tests.benchmarks.kit import Lookout, Spawn, issued, when
from tests.benchmarks.lanes import claims, states, tokens
from tests.benchmarks.load import Load, fire, need_files
from tests.factories import make_users
from tests.web import until_answered

pytestmark = pytest.mark.benchmark

CROWD = 10_000
SALE, CONNECTIONS = 100_000, 2_000
FILES = CROWD + 500
RSS_LIMIT = 300  # MiB, of a gate process with ten thousand connections

Report = Callable[[dict[str, object]], None]
Sale = Callable[..., Event]


class Gate:
    """A gate process and a worker on the test's servers."""

    def __init__(self, spawn: Spawn) -> None:
        self.port = free_port()
        self.process = spawn("config.serve", "gate", "--port", str(self.port), GATE_PROCESSES="1")
        self.worker = spawn(
            *("celery", "-A", "config", "worker", "--concurrency", "1", "--loglevel", "ERROR"),
            *("--without-mingle", "--without-gossip"),
        )
        until_answered(self.port, lambda: self.process.poll() is None)

    def know(self, event: Event) -> None:
        """Have it read the event, as the pages do on which a crowd waits."""

        def told() -> bool:
            return fire(self.port, states(event.id, 1), connections=1).statuses == {200: 1}

        when(told)

    def rss(self) -> int:
        """In MiB; of the process that serves, the one that watches over it left aside."""
        (serving,) = psutil.Process(self.process.pid).children()
        return int(serving.memory_info().rss) >> 20


@pytest.fixture
def gate(spawn: Spawn) -> Gate:
    need_files(FILES)
    return Gate(spawn)


class Backlog(Lookout):
    """The most that waits in the claim log of an event."""

    every = 0.1

    def __init__(self, store: StockStore, event: Event) -> None:
        super().__init__()
        self.longest = 0
        self._store, self._event = store, event

    def look(self) -> None:
        self.longest = max(self.longest, self._store.backlogs([self._event.id])[self._event.id])


def _latencies(load: Load) -> str:
    return ", ".join(f"{load.percentile(share):.0f}" for share in (0.5, 0.99, 1))


@pytest.mark.parametrize("coupons", [100, CROWD])
def test_ten_thousand_connections_fire_within_a_second(sale: Sale, gate: Gate, report: Report, coupons: int) -> None:
    event, users = sale(quantity=coupons), make_users(CROWD)
    requests = claims(event.id, tokens(users, "crowd"))
    gate.know(event)
    rss: list[int] = []
    started, began = time.time(), gate.rss()
    crowd = fire(gate.port, requests, connections=CROWD, at_the_end=lambda: rss.append(gate.rss()))
    assert crowd.statuses == Counter({202: coupons}) + Counter({409: CROWD - coupons}), "not one error"
    assert 0 < crowd.sending < 1
    when(lambda: issued(event) == coupons)
    assert Coupon.objects.filter(event=event).values("user").distinct().count() == coupons
    last = Coupon.objects.filter(event=event).latest("issued_at").issued_at.timestamp()
    report(
        {
            "connections": CROWD,
            "accepted": crowd.statuses[202],
            "sold out": crowd.statuses[409],
            "by an error, or not at all": 0,
            "seconds to connect": round(crowd.connecting, 2),
            "seconds to send": round(crowd.sending, 2),
            "seconds until all were answered": round(crowd.seconds, 2),
            "p50, p99, max ms": _latencies(crowd),
            "issued": coupons,
            "seconds until the last was issued": round(last - started - crowd.connecting, 2),
            "gate RSS MiB, before and with all connected": f"{began}, {rss[0]}",
            "asked for": f"≤ {RSS_LIMIT}",
        }
    )
    assert rss[0] <= RSS_LIMIT


def test_a_hundred_thousand_claims_in_one_sale(sale: Sale, store: StockStore, gate: Gate, report: Report) -> None:
    event, users = sale(quantity=SALE), make_users(SALE)
    requests = claims(event.id, tokens(users, "sale"))
    gate.know(event)
    started = time.time()
    with Backlog(store, event) as backlog:
        load = fire(gate.port, requests, connections=CONNECTIONS)
        assert load.statuses == {202: SALE}, "not one error"
        when(lambda: issued(event) == SALE)
    last = Coupon.objects.filter(event=event).latest("issued_at").issued_at.timestamp()
    assert Coupon.objects.filter(event=event).values("user").distinct().count() == SALE
    report(
        {
            "connections": CONNECTIONS,
            "accepted": load.statuses[202],
            "claims a second": round(load.rate),
            "p50, p99, max ms": _latencies(load),
            "seconds until the last was answered": round(load.seconds, 2),
            "seconds until the last was issued": round(last - started, 2),
            "longest backlog": backlog.longest,
            "gate RSS MiB": gate.rss(),
        }
    )
