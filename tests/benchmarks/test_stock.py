"""What a claimant costs in Redis, in bytes and in time."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from coupons.codes import new_code
from coupons.stock import keys
from coupons.stock.records import IssuedCoupon, Window, instant, milliseconds
from coupons.stock.store import StockStore

pytestmark = pytest.mark.benchmark

BATCH = 500


def _open(store: StockStore, event_id: int, quantity: int) -> None:
    now = milliseconds(instant(int(time.time() * 1000)))
    window = Window("published", now - 60_000, now + 3_600_000, 1, 10, 20)
    store.load(event_id, epoch=1, available=quantity, sequence=0, window=window, claimants=[])


def _claim(store: StockStore, event_id: int, first: int, number: int) -> None:
    for start in range(first, first + number, BATCH):
        users = range(start, min(start + BATCH, first + number))
        store.reserve(event_id, epoch=1, claims=[(user, "AAAAAAAAAAA") for user in users])


def _settle(store: StockStore, event_id: int) -> None:
    while entries := store.read_log(event_id, count=1000):
        now = timezone.now()
        store.settle(
            event_id,
            epoch=1,
            drained=entries[-1].sequence,
            entries=[entry.entry_id for entry in entries],
            issued=[(entry, IssuedCoupon(new_code(), now)) for entry in entries],
        )


def test_a_settled_claimant_takes_at_most_200_bytes(store: StockStore, report: Callable[..., None]) -> None:
    claimants = 100_000
    _open(store, 1, claimants)
    _claim(store, 1, 1_000_000, claimants)
    _settle(store, 1)
    lasting, passing = (
        sum(int(store.client.memory_usage(key, samples=0) or 0) for key in names) / claimants
        for names in ((keys.claimants(1), keys.log(1)), store.client.scan_iter("sc:{1}:issued:*"))
    )
    report(
        {
            "claimants": claimants,
            "bytes a claimant": round(lasting, 1),
            "for two minutes after the issue": round(lasting + passing, 1),
            "asked for": "≤ 200",
        }
    )


def test_a_claim_costs_the_same_with_a_thousand_and_a_million_claimants(
    store: StockStore, report: Callable[..., None]
) -> None:
    few, many, probes, rounds = 1_000, 1_000_000, 2_000, 5
    for event_id, claimants in ((1, few), (2, many)):
        _open(store, event_id, claimants + probes * rounds)
        _claim(store, event_id, 1_000_000, claimants)
        _settle(store, event_id)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for round_ in range(rounds):  # interleaved, so that both meet the same noise
        for event_id in (1, 2):
            first = 5_000_000 + round_ * probes
            store.client.config_resetstat()
            for user in range(first, first + probes):
                store.reserve(event_id, epoch=1, claims=[(user, "")])
            calls: Any = store.client.info("commandstats")["cmdstat_evalsha"]
            seconds[event_id].append(calls["usec_per_call"])
    cost = {event_id: sorted(each)[len(each) // 2] for event_id, each in seconds.items()}
    report(
        {
            f"µs a script, {few:,} claimants": cost[1],
            f"µs a script, {many:,} claimants": cost[2],
            "ratio": round(cost[2] / cost[1], 3),
            "asked for": "≤ 1.2",
        }
    )
