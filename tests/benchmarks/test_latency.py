"""How long a claim takes by how much is asked of the gate, beside a no-op that gets as many requests.

The load is open-loop, at shares of what the gate carries over as many connections. The server has one core, load and
Redis share the other. Figures are medians of the rounds; the first round of a share warms up, and a round in which the
host of this machine served its other guests, or somebody was not answered as expected, does not count.
"""

import json
import statistics
from collections.abc import Callable, Sequence

import pytest

from events.models import Event
from tests.benchmarks import plot
from tests.benchmarks.kit import Spawn
from tests.benchmarks.lanes import (
    ASGI_NOOP,
    CONNECTIONS,
    GATE,
    Measured,
    Running,
    claims_of_a_new_sale,
    start,
    that_count,
)
from tests.factories import make_users
from tests.servers import ROOT

pytestmark = pytest.mark.benchmark

SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
ROUNDS = 9
SECONDS = 1.0  # of a round
USERS = 30_000
AIM = 5.0  # milliseconds
FOLDER = ROOT / "docs" / "performance"


def test_latency_by_load(
    sale: Callable[..., Event],
    transactional_db: None,
    redis: int,
    spawn: Spawn,
    report: Callable[..., None],
) -> None:
    users = make_users(USERS)

    def measure(one: Running, number: int, name: str, rate: float | None = None) -> Measured:
        requests = claims_of_a_new_sale(one, sale, users[:number], name)
        return one.measure(requests, connections=CONNECTIONS, rate=rate)

    points: dict[str, list[dict[str, float]]] = {}
    carried = 0.0
    for lane in (GATE, ASGI_NOOP):  # one after the other: the one that waits is not to wake up on the core
        one = start(lane, spawn, redis=redis)
        full = [measure(one, 8_000, f"full-{number}") for number in range(ROUNDS + 1)]
        carried = carried or statistics.median(each.load.rate for each in that_count(full[1:], {202}))
        points[lane.name] = []
        for share in SHARES:
            rate = share * carried
            rounds = [measure(one, int(rate * SECONDS), f"{share}-{number}", rate) for number in range(ROUNDS + 1)]
            points[lane.name].append(_figures(rate, that_count(rounds[1:], {202})))
        one.process.terminate()
        one.process.wait(timeout=30)

    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "latency.json").write_text(json.dumps({"carried": round(carried), "lanes": points}, indent=2) + "\n")
    plot.latency(points, AIM, FOLDER / "latency.png")
    report(
        {
            f"{lane}: {of} at {point['a second']:,.0f} a second": point[of]
            for lane, all_ in points.items()
            for point in all_
            for of in ("p50 ms", "p99 ms", "busy")
        }
    )


def _figures(rate: float, rounds: Sequence[Measured]) -> dict[str, float]:
    def median(of: Callable[[Measured], float]) -> float:
        return round(statistics.median(of(one) for one in rounds), 2)

    return {
        "a second": round(rate),
        "p50 ms": median(lambda one: one.load.percentile(0.5)),
        "p99 ms": median(lambda one: one.load.percentile(0.99)),
        "busy": median(lambda one: one.server_busy),
    }
