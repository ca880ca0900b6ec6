"""Workers that are stopped where it hurts most, and woken when all has gone on without them; time-outs of real ones.

What a stopped process holds is PostgreSQL's to take away: after `idle_in_transaction_session_timeout`.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from django.db import connection

from coupons import modes
from coupons.issuing import issue_claims
from coupons.locks import is_free
from coupons.models import Coupon, FailedClaim
from coupons.reconciling import reconcile
from coupons.stock import keys
from coupons.stock.codes import ReserveCode
from coupons.stock.store import StockStore
from coupons.tasks import issue_claims as issue_claims_task
from events.models import Event
from tests.celery_kit import Processes, broker_at, drained
from tests.concurrency.children import environment
from tests.factories import make_users
from tests.faults.parts import Valkey, until
from tests.sales import NOBODY, assert_sold_out_exactly, assert_sum, make_due, reserve
from tests.stock_kit import everything

pytestmark = pytest.mark.faults

Sale = Callable[..., Event]

NOBODY_FOR = 30  # seconds that one stuck worker may hold up a sale
SOON = "1"  # seconds; where it is not the time-out that is looked at


@contextmanager
def stopped_at(point: str, work: str, event: Event, **settings: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that is stopped by SIGSTOP at the point of its work."""
    command = [sys.executable, "-m", "tests.concurrency.crashing", "SIGSTOP", point, work, str(event.id)]
    child = environment(**settings)
    with subprocess.Popen(command, env=child, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:

        def stopped() -> bool:
            assert process.poll() is None, f"it did not come to the point: {process.communicate()}"
            return bool(psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)

        try:
            until(stopped, f"it stops {point}")
            yield process
        finally:
            process.kill()


def wake(process: "subprocess.Popen[str]") -> str:
    """Let it go on to its end; what it wrote."""
    process.send_signal(signal.SIGCONT)
    written, _ = process.communicate(timeout=NOBODY_FOR)
    return written


def all_of(event: Event, store: StockStore) -> Any:
    """The sale in both places."""
    names = [keys.state(event.id), keys.claimants(event.id), keys.log(event.id)]
    redis = {name: content for name, content in everything(store.client).items() if name in names}
    return redis, list(Event.objects.filter(pk=event.id).values()), list(Coupon.objects.order_by("id").values())


def load_anew(event: Event, store: StockStore) -> None:
    """Lose the state in Redis, and load it in a new epoch."""
    store.unload(event.id)
    reconcile(event.id, store)


# Stopped in a transaction ---------------------------------------------------------------------------------------------


@pytest.fixture
def celery(tmp_path: Path) -> Iterator[Processes]:
    """Celery's processes on a broker that nobody else uses."""
    broker = Valkey(tmp_path)
    broker.start()
    processes = Processes(tmp_path, BROKER_URL=broker.url)
    try:
        with broker_at(broker.url):
            yield processes
    finally:
        processes.end()
        broker.end()


def test_one_that_is_stopped_holding_the_locks_holds_up_nobody_for_long(
    sale: Sale, store: StockStore, celery: Processes
) -> None:
    event, users = sale(quantity=10), make_users(10)
    worker = celery.start("worker")
    celery.start("beat")
    reserve(store, event, users[0])
    celery.until(drained(event, store, 1))

    os.killpg(worker.pid, signal.SIGSTOP)  # so that it is the other one that drains
    reserve(store, event, *users[1:7])
    with stopped_at("before commit", "drain", event) as process:
        os.killpg(worker.pid, signal.SIGCONT)
        seconds = celery.until(drained(event, store, 7), patience=NOBODY_FOR)
        print(f"\nnobody drained for {seconds:.1f} s")
        before = all_of(event, store)
        assert "idle-in-transaction timeout" in wake(process)
        assert process.returncode == 1
    assert all_of(event, store) == before
    reserve(store, event, *users[7:])
    celery.until(drained(event, store, 10))
    assert_sold_out_exactly(store, event)


@pytest.mark.parametrize("point", ["with the drain lock", "after the read of the log", "after the insert"])
def test_a_drainer_that_wakes_in_a_transaction_that_is_over_does_no_harm(
    sale: Sale, store: StockStore, point: str
) -> None:
    event, users = sale(quantity=10), make_users(10)
    reserve(store, event, *users[:7])
    with stopped_at(point, "drain", event, DATABASE_IDLE_TIMEOUT=SOON) as process:
        until(lambda: bool(issue_claims(event.id, store)), "another drains", seconds=NOBODY_FOR)
        reserve(store, event, *users[7:9])
        before = all_of(event, store)
        assert "OperationalError" in wake(process)
    assert all_of(event, store) == before
    reserve(store, event, *users[9:])
    assert issue_claims(event.id, store) == 3
    assert_sold_out_exactly(store, event)


LOADS = ["before the epoch is saved", "before the load", "with the claimants prepared", "after the load"]


@pytest.mark.parametrize("later_loads", [1, 2])
@pytest.mark.parametrize("point", LOADS)
@pytest.mark.parametrize("work", ["reconcile", "bring back"])
def test_a_load_that_wakes_after_others_does_no_harm(
    sale: Sale, store: StockStore, work: str, point: str, later_loads: int
) -> None:
    event, users = sale(quantity=10), make_users(10)
    reserve(store, event, *users[:3])
    issue_claims(event.id, store)
    reserve(store, event, *users[3:7])
    if work == "bring back":
        modes.fall_back(event.id, epoch=1)
    else:
        store.unload(event.id)
    with stopped_at(point, work, event, DATABASE_IDLE_TIMEOUT=SOON) as process:
        if work == "bring back":
            modes.sell_from_redis(event.id, store)
        else:
            reconcile(event.id, store)
        for _ in range(later_loads - 1):
            load_anew(event, store)
        reserve(store, event, *users[7:9])
        before = all_of(event, store)
        wake(process)
        assert process.returncode == 1
    assert all_of(event, store) == before
    issue_claims(event.id, store)
    reserve(store, event, *users[9:])
    issue_claims(event.id, store)
    assert_sold_out_exactly(store, event)
    assert reconcile(event.id, store) == []


def test_a_load_that_wakes_before_any_other_puts_nothing_up_for_sale(sale: Sale, store: StockStore) -> None:
    """Its epoch is not saved, so nobody asks for it; and what it loads is out of date by what was drained meanwhile."""
    event, users = sale(quantity=10), make_users(10)
    reserve(store, event, *users[:7])
    store.unload(event.id)
    with stopped_at("with the claimants prepared", "reconcile", event, DATABASE_IDLE_TIMEOUT=SOON) as process:
        until(lambda: is_free(event.id), "its session is over")
        assert issue_claims(event.id, store) == 7
        assert "OperationalError" in wake(process)
    snapshot = store.snapshot(event.id)
    assert (snapshot.epoch, snapshot.stock) == (2, 10)
    event.refresh_from_db()
    (answer,) = store.reserve(event.id, epoch=event.epoch, claims=[(users[7], "")]).reservations
    assert (event.epoch, answer.code) == (1, ReserveCode.WRONG_EPOCH)

    reconcile(event.id, store)
    assert_sum(store, event)
    assert event.epoch == 3
    reserve(store, event, *users[7:])
    issue_claims(event.id, store)
    assert_sold_out_exactly(store, event)


# Stopped between two transactions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["after commit", "before settle"])
def test_a_drainer_that_is_stopped_before_it_settles_holds_up_nobody_and_wakes_without_harm(
    sale: Sale, store: StockStore, point: str
) -> None:
    event, users = sale(quantity=10), make_users(10)
    reserve(store, event, *users[:7])
    with stopped_at(point, "drain", event) as process:
        assert issue_claims(event.id, store) == 4
        load_anew(event, store)
        reserve(store, event, *users[7:9])
        assert issue_claims(event.id, store) == 2
        before = all_of(event, store)
        wake(process)
        assert process.returncode == 0
    assert all_of(event, store) == before
    reserve(store, event, *users[9:])
    issue_claims(event.id, store)
    assert_sold_out_exactly(store, event)
    assert reconcile(event.id, store) == []


def test_a_unit_that_two_want_to_give_back_is_given_back_once(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=3), make_users(3)
    reserve(store, event, NOBODY)
    for _ in range(3):
        issue_claims(event.id, store)
        make_due(event)
    with stopped_at("before release", "drain", event) as process:
        issue_claims(event.id, store)
        assert store.snapshot(event.id).stock == 3
        reserve(store, event, *users)
        wake(process)
        assert process.returncode == 0
    issue_claims(event.id, store)
    assert FailedClaim.objects.get().status == FailedClaim.Status.REJECTED
    assert_sum(store, event)
    assert event.issued == Coupon.objects.count() == 3


# Time-outs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", ["SELECT 1 FROM events_event FOR UPDATE", "LOCK TABLE coupons_coupon"])
def test_a_worker_whose_statement_takes_too_long_tries_again_by_itself(
    sale: Sale, store: StockStore, celery: Processes, held: str
) -> None:
    """There is no beat: one message is all that the worker ever gets."""
    celery.settings["DATABASE_STATEMENT_TIMEOUT"] = "0.5"  # and that of locks
    event, users = sale(quantity=10), make_users(10)
    reserve(store, event, *users)
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute(held)

        def somebody_waits() -> bool:
            return bool(other.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone())

        celery.start("worker")
        issue_claims_task.delay(event.id)
        celery.until(somebody_waits)
        celery.until(lambda: not somebody_waits())
        assert other.execute("SELECT count(*) FROM coupons_coupon").fetchone() == (0,)
    celery.until(drained(event, store, 10))
    assert_sold_out_exactly(store, event)
