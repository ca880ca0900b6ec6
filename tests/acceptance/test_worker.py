"""Real workers and a real beat on a real broker: what is claimed is issued, whoever is killed and whatever is lost."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection, transaction
from redis import Redis

from coupons import services, tasks
from coupons.locks import NAMESPACE
from coupons.models import Coupon
from coupons.nudging import nudger
from coupons.stock.store import StockStore
from events.models import Event
from tests.celery_kit import Processes, drained
from tests.factories import make_users
from tests.sales import assert_sold_out_exactly, reserve

Sale = Callable[..., Event]


@pytest.fixture
def broker() -> Iterator["Redis"]:
    """The broker's Redis, empty."""
    with Redis.from_url(settings.BROKER_URL) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def processes(transactional_db: None, broker: "Redis", tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.end()


def a_worker_waits_for(event: Event) -> bool:
    """Whether a drainer holds the drain lock of the event (and cannot go on: its row is locked by us)."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND (classid::bigint << 32) + objid::bigint = %s",
            [NAMESPACE + event.id],
        )
        return bool(cursor.fetchone()[0])


def sessions() -> int:
    """How many connections to the database were ever made."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def test_what_is_claimed_is_issued_by_a_worker(sale: Sale, store: StockStore, processes: Processes) -> None:
    event, users = sale(quantity=30), make_users(30)
    processes.start("worker")
    for user in users[:20]:
        services.claim(event_id=event.id, user_id=user)
    processes.until(drained(event, store, 20))  # by the nudge alone: beat does not run yet
    processes.start("beat")
    for user in users[20:]:
        services.claim(event_id=event.id, user_id=user)
    processes.until(drained(event, store, 30))
    assert_sold_out_exactly(store, event)


def test_the_tasks_of_a_worker_share_its_connections(sale: Sale, store: StockStore, processes: Processes) -> None:
    event, users = sale(quantity=20), make_users(20)
    processes.start("worker")
    for number, user in enumerate(users, 1):
        reserve(store, event, user)
        tasks.issue_claims.delay(event.id)
        processes.until(drained(event, store, number))
        if number == 1:
            before = sessions()
    assert sessions() - before <= 3, "made for 19 tasks, and for the thread that stands by"


def test_a_worker_killed_in_the_middle_of_a_batch_costs_nothing(
    sale: Sale, store: StockStore, processes: Processes
) -> None:
    event, users = sale(quantity=30), make_users(30)
    reserve(store, event, *users[:20])
    worker = processes.start("worker")
    processes.start("beat")
    with transaction.atomic():
        Event.objects.select_for_update().get(pk=event.id)  # the worker comes this far, and waits in its transaction
        processes.until(lambda: a_worker_waits_for(event))
        processes.kill(worker)
    assert Coupon.objects.count() == 0
    assert store.snapshot(event.id).backlog == 20
    reserve(store, event, *users[20:])
    processes.start("worker")
    processes.until(drained(event, store, 30))
    assert_sold_out_exactly(store, event)


def test_a_broker_that_loses_everything_costs_nothing(
    sale: Sale, store: StockStore, processes: Processes, broker: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nudger, "nudge", lambda _: None)  # these nudges are among what is lost
    event, users = sale(quantity=30), make_users(30)
    processes.start("worker")
    processes.start("beat")
    reserve(store, event, *users[:10])
    processes.until(drained(event, store, 10))
    for user in users[10:]:
        services.claim(event_id=event.id, user_id=user)
        broker.flushdb()
    processes.until(drained(event, store, 30))
    assert_sold_out_exactly(store, event)
