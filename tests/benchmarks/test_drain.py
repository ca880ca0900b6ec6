"""Draining in batches against one Celery task a claim."""

import time
from collections.abc import Callable

import pytest
from django.contrib.auth import get_user_model

from coupons import issuing
from coupons.models import Coupon
from coupons.stock.store import StockStore
from events.models import Event
from tests.benchmarks import textbook
from tests.benchmarks.conftest import Spawn

pytestmark = pytest.mark.benchmark

TASKS, CLAIMS = 2_000, 50_000


def _users(number: int) -> list[int]:
    model = get_user_model()
    made = model.objects.bulk_create([model(username=f"bench{n}", password="!") for n in range(number)], 5_000)
    return [user.id for user in made]


def test_drain_against_one_task_a_claim(
    sale: Callable[..., Event], store: StockStore, spawn: Spawn, report: Callable[..., None]
) -> None:
    users = _users(CLAIMS)

    plain = sale(quantity=TASKS)
    for sequence, user_id in enumerate(users[:TASKS], 1):
        textbook.issue_one.delay(plain.id, user_id, sequence)
    worker = spawn("celery", "-A", "tests.benchmarks.textbook", "worker", "--concurrency", "1", "--loglevel", "ERROR")
    started = _when(lambda: Coupon.objects.filter(event=plain).count() >= TASKS // 10)
    done = _when(lambda: Coupon.objects.filter(event=plain).count() >= TASKS)
    # From a tenth on, so that the worker's start does not count against it.
    by_task = (TASKS - TASKS // 10) / (done - started)
    worker.terminate()  # it hears of no sweep, and would drain by itself
    worker.wait(30)

    event = sale(quantity=CLAIMS)
    for start in range(0, CLAIMS, 500):
        store.reserve(event.id, epoch=event.epoch, claims=[(user_id, "") for user_id in users[start : start + 500]])
    begun = time.perf_counter()
    assert issuing.issue_claims(event.id, store) == CLAIMS
    by_batch = CLAIMS / (time.perf_counter() - begun)

    report(
        {
            "coupons a second, one task each": round(by_task),
            "coupons a second, drained": round(by_batch),
            "ratio": round(by_batch / by_task, 1),
            "asked for": "≥ 30",
        }
    )


def _when(condition: Callable[[], bool], *, within: float = 120) -> float:
    deadline = time.perf_counter() + within
    while not condition():
        assert time.perf_counter() < deadline, "the worker did not come to it"
        time.sleep(0.005)
    return time.perf_counter()
