"""Our lanes beside the textbook's and beside the ceilings, over HTTP, all in one run and interleaved.

The server has one core, load and Redis share the other. Every claim is of another user with a token that was never
seen. Rounds are short, and the lanes take turns in each; the first one warms up, and where somebody was not answered as
expected it does not count. A figure is the median of the rounds that the host of this machine disturbed least
(`host`). How many times as much one lane carries as another is the median of what it was in each round, for the host
changes within seconds, and what is compared must have met the same. Half load is measured once more with real-time
priority, where that is allowed: what is left of p99 then is the gate's own.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from coupons import services
from events.models import Event
from tests.benchmarks import plot, textbook
from tests.benchmarks.kit import Spawn, before_all_others, issued, when
from tests.benchmarks.lanes import (
    ASGI_NOOP,
    CONNECTIONS,
    DJANGO_NOOP,
    GATE,
    HOST,
    TEXTBOOK,
    WEB,
    Measured,
    Running,
    claims,
    claims_of_a_new_sale,
    family,
    start,
    states,
    that_count,
    tokens,
)
from tests.factories import make_users
from tests.servers import ROOT

pytestmark = pytest.mark.benchmark

ROUNDS = 15
# Requests a round, in the order of the turns: the gate and its ceiling are next to each other.
NUMBERS = {ASGI_NOOP: 12_000, GATE: 8_000, TEXTBOOK: 600, WEB: 2_000, DJANGO_NOOP: 6_000}
OURS = (GATE, WEB)
ALONE = "half load, before all others"
FOLDER = ROOT / "docs" / "performance"


@pytest.fixture
def users(transactional_db: None) -> list[int]:
    return make_users(max(NUMBERS.values()))


def test_lanes(
    sale: Callable[..., Event], users: list[int], redis: int, spawn: Spawn, report: Callable[..., None]
) -> None:
    lanes = [start(lane, spawn, redis=redis) for lane in NUMBERS]
    figures: dict[str, dict[str, float]] = {one.lane.name: {} for one in lanes}
    rates: dict[str, dict[str, list[float | None]]] = {}

    def measure(
        what: str,
        statuses: set[int],
        running: Sequence[Running],
        requests: Callable[..., list[bytes]],
        *,
        rate: float | None = None,
    ) -> None:
        rounds: dict[str, list[Measured]] = {one.lane.name: [] for one in running}
        for number in range(ROUNDS + 1):
            for one in running:
                measured = one.measure(requests(one, f"{what}-{number}"), connections=CONNECTIONS, rate=rate)
                if number:  # the first one warms up
                    rounds[one.lane.name].append(measured)
        rates[what] = {
            lane: [one.load.rate if one.was_answered(statuses) else None for one in all_]
            for lane, all_ in rounds.items()
        }
        for lane, all_ in rounds.items():
            figures[lane] |= _figures(what, that_count(all_, statuses))

    def accepted(one: Running, name: str) -> list[bytes]:
        return claims_of_a_new_sale(one, sale, users[: NUMBERS[one.lane]], name)

    def refused(one: Running, name: str) -> list[bytes]:
        chosen = users[: NUMBERS[one.lane]]
        return claims(_sold_out(sale, users[-1]).id, tokens(chosen[:-1], name + one.lane.name))

    event = sale(quantity=5)
    measure("accepted", {202}, lanes, accepted)
    measure("sold out", {409}, [one for one in lanes if one.lane in (*OURS, TEXTBOOK)], refused)
    measure(
        "state",
        {200, 202},
        [one for one in lanes if one.lane in (*OURS, ASGI_NOOP)],
        lambda one, _: states(event.id, NUMBERS[one.lane]),
    )
    left = [one for one in lanes if one.lane in (GATE, ASGI_NOOP)]
    for other in lanes:  # they are not to wake up on the core of the gate; the no-op sleeps until it is asked
        if other not in left:
            other.process.terminate()
            other.process.wait(timeout=30)
    half = figures["gate"]["accepted: a second"] / 2
    measure("half load", {202}, left, accepted, rate=half)
    gate = next(one for one in lanes if one.lane is GATE)
    with before_all_others([*(each.pid for each in family(gate.process.pid)), redis, os.getpid()]) as is_allowed:
        if is_allowed:
            measure(ALONE, {202}, [gate], accepted, rate=half)

    textbook.app.control.purge()  # its messages, which a worker of the next benchmark would have to read

    ratios = _ratios(figures, rates)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "lanes.json").write_text(json.dumps({"lanes": figures, "ratios": ratios}, indent=2) + "\n")
    plot.lanes(figures, Path(FOLDER / "lanes.png"))
    report({f"{lane}: {name}": value for lane, all_ in figures.items() for name, value in all_.items()} | ratios)


def test_the_last_coupon(
    sale: Callable[..., Event], users: list[int], redis: int, spawn: Spawn, report: Callable[..., None]
) -> None:
    """A worker drains meanwhile, on the core of the load."""
    gate = start(GATE, spawn, redis=redis)
    spawn(
        "celery", "-A", "config", "worker", "--concurrency", "1", "--without-mingle", "--loglevel", "ERROR", cores={1}
    )
    warm = sale(quantity=1000)
    gate.measure(claims(warm.id, tokens(users[:1000], "warm")), connections=CONNECTIONS)
    when(lambda: issued(warm) == 1000)
    event = sale(quantity=len(users))
    started = time.perf_counter()
    measured = gate.measure(claims(event.id, tokens(users, "last")), connections=CONNECTIONS)
    answered = time.perf_counter()
    when(lambda: issued(event) == len(users))
    ended = time.perf_counter()
    report(
        {
            "claims accepted": measured.load.answered,
            "a second": round(measured.load.rate),
            "seconds from the last answer to the last coupon": round(ended - answered, 2),
            "coupons a second, from the first claim on": round(len(users) / (ended - started)),
        }
    )


def _figures(what: str, rounds: Sequence[Measured]) -> dict[str, float]:
    def median(of: Callable[[Measured], float]) -> float:
        return statistics.median(of(one) for one in rounds)

    return {
        f"{what}: a second": round(median(lambda one: one.load.rate)),
        f"{what}: server CPU, µs": round(median(lambda one: one.server_cpu), 1),
        f"{what}: Redis CPU, µs": round(median(lambda one: one.redis_cpu), 1),
        f"{what}: p50 ms": round(median(lambda one: one.load.percentile(0.5)), 2),
        f"{what}: p99 ms": round(median(lambda one: one.load.percentile(0.99)), 2),
        f"{what}: server busy": round(median(lambda one: one.server_busy), 2),
        f"{what}: load and Redis busy": round(median(lambda one: one.other_busy), 2),
        f"{what}: stolen by the host": round(median(lambda one: one.stolen), 3),
        f"{what}: same work, to its quickest": round(median(lambda one: one.work) / HOST.quickest, 2),
        f"{what}: rounds that count": len(rounds),
    }


def _ratios(figures: dict[str, dict[str, float]], rates: dict[str, dict[str, list[float | None]]]) -> dict[str, str]:
    gate, web = figures["gate"], figures["DRF"]

    def ratio(what: str, one: str, other: str, asked: str) -> str:
        pairs = zip(rates[what][one], rates[what][other], strict=True)
        return f"{statistics.median(a / b for a, b in pairs if a and b):.2f} (asked for: {asked})"

    redis = gate["accepted: Redis CPU, µs"] / web["accepted: Redis CPU, µs"]
    return {
        "gate : textbook, claims a second": ratio("accepted", "gate", "textbook", "≥ 20"),
        "gate : ASGI no-op": ratio("accepted", "gate", "ASGI no-op", "≥ 0.45"),
        "DRF : textbook": ratio("accepted", "DRF", "textbook", "≥ 3"),
        "DRF : Django no-op": ratio("accepted", "DRF", "Django no-op", "—"),
        "Redis CPU a claim, gate : DRF": f"{redis:.2f} (asked for: ≤ 0.6)",
        "state, gate : ASGI no-op": ratio("state", "gate", "ASGI no-op", "≥ 0.7"),
        "gate, CPU µs a claim": f"{gate['accepted: server CPU, µs']} (asked for: ≤ 65)",
        "gate, p99 ms at half load": f"{gate['half load: p99 ms']} (asked for: ≤ 5)",
        "the same, before all else on the machine": f"{gate.get(f'{ALONE}: p99 ms', 'not allowed')}",
        "ASGI no-op, p99 ms at as many a second": f"{figures['ASGI no-op']['half load: p99 ms']} (asked for: —)",
    }


def _sold_out(sale: Callable[..., Event], user: int) -> Event:
    event = sale(quantity=1)
    services.claim(event_id=event.id, user_id=user)
    return event
