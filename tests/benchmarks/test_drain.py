"""Draining in batches: against one Celery task a claim, by a real worker, and behind claims that do not stop."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from django.db import connection

from coupons import issuing, tasks
from coupons.models import Coupon
from coupons.stock.store import StockStore
from events.models import Event
from tests.benchmarks import textbook
from tests.benchmarks.kit import Spawn, issued, when
from tests.factories import make_users

pytestmark = pytest.mark.benchmark

TASKS, CLAIMS = 2_000, 50_000
RUSH = 100_000


@pytest.fixture
def _durable(transactional_db: None, store: StockStore) -> Iterator[None]:
    """Commits and the claim log wait for the disk as they do in a sale, not as in the other tests."""

    def wait(*, for_the_disk: bool) -> None:
        with connection.cursor() as cursor:
            for name in ("fsync", "synchronous_commit"):
                cursor.execute(f"ALTER SYSTEM SET {name} = {for_the_disk}")
            cursor.execute("SELECT pg_reload_conf()")
        store.client.config_set("appendfsync", "everysec" if for_the_disk else "no")

    wait(for_the_disk=True)
    yield
    wait(for_the_disk=False)


def test_drain_against_one_task_a_claim(
    sale: Callable[..., Event], store: StockStore, spawn: Spawn, report: Callable[..., None]
) -> None:
    users = make_users(CLAIMS)

    plain = sale(quantity=TASKS)
    for sequence, user_id in enumerate(users[:TASKS], 1):
        textbook.issue_one.delay(plain.id, user_id, sequence)
    worker = spawn("celery", "-A", "tests.benchmarks.textbook", "worker", "--concurrency", "1", "--loglevel", "ERROR")
    started = when(lambda: Coupon.objects.filter(event=plain).count() >= TASKS // 10)
    done = when(lambda: Coupon.objects.filter(event=plain).count() >= TASKS)
    # From a tenth on, so that the worker's start does not count against it.
    by_task = (TASKS - TASKS // 10) / (done - started)
    worker.terminate()  # it hears of no sweep, and would drain by itself
    worker.wait(30)

    event = sale(quantity=CLAIMS)
    _claim(event, store, users)
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


@pytest.mark.usefixtures("_durable")
def test_a_worker_drains_and_keeps_up(
    sale: Callable[..., Event], store: StockStore, spawn: Spawn, report: Callable[..., None], tmp_path: Path
) -> None:
    """One worker process, from a full log; then behind another process that claims as fast as Redis takes it."""
    users = make_users(RUSH)
    worker = spawn("celery", "-A", "config", "worker", "--concurrency", "1", "--loglevel", "ERROR")
    first = sale(quantity=100)
    _claim(first, store, users[:100])
    tasks.issue_claims.delay(first.id)
    when(lambda: issued(first) == 100)  # it has started

    full = sale(quantity=CLAIMS)
    _claim(full, store, users[:CLAIMS])
    processes = {
        "worker": psutil.Process(worker.pid),
        "Valkey": psutil.Process(store.client.info("server")["process_id"]),
    }
    before = {name: _cpu_seconds(process) for name, process in processes.items()}
    tasks.issue_claims.delay(full.id)
    started = when(lambda: issued(full) > 0)
    done = when(lambda: issued(full) == CLAIMS)
    by_worker = (CLAIMS - issuing.BATCH) / (done - started)
    cpu = {name: (_cpu_seconds(process) - before[name]) / CLAIMS * 1e6 for name, process in processes.items()}

    rush = sale(quantity=RUSH)
    # Its sweep finds what comes after the last nudge.
    spawn("celery", "-A", "config", "beat", "--loglevel", "ERROR", BEAT_SCHEDULE_FILE=str(tmp_path / "beat"))
    spawn("tests.benchmarks.claiming", str(rush.id), str(users[0]), str(users[-1]))
    backlogs: list[int] = []

    def accepted(number: int) -> bool:
        snapshot = store.snapshot(rush.id)
        backlogs.append(snapshot.backlog)
        return snapshot.sequence >= number

    begun = when(lambda: accepted(1))
    ended = when(lambda: accepted(RUSH))
    all_issued = when(lambda: issued(rush) == RUSH)
    report(
        {
            "coupons a second, drained by a worker": round(by_worker),
            "asked for": "≥ 20,000",
            **{f"CPU µs a coupon, {name}": round(each, 1) for name, each in cpu.items()},
            "claims a second meanwhile": round(RUSH / (ended - begun)),
            "coupons a second meanwhile": round(RUSH / (all_issued - begun)),
            "longest backlog": max(backlogs),
            "seconds from the last claim to the last coupon": round(all_issued - ended, 2),
        }
    )


def _claim(event: Event, store: StockStore, users: list[int]) -> None:
    for start in range(0, len(users), 500):
        store.reserve(event.id, epoch=event.epoch, claims=[(user_id, "") for user_id in users[start : start + 500]])


def _cpu_seconds(process: psutil.Process) -> float:
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))
