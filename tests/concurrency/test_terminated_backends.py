"""PostgreSQL ends the session of whoever drains, reconciles, loads or claims, at each point of the work.

It ends as an error that is tried again, and the sale ends exactly right.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psycopg
import pytest
from django.db import OperationalError, connection

from config.postgresql.connection import breaker, patience
from coupons import modes, services
from coupons.issuing import issue_claims
from coupons.models import Coupon, FailedClaim
from coupons.reconciling import reconcile
from coupons.stock.store import StockStore
from coupons.strategies import WITHOUT_REDIS
from events.catalogue import catalogue
from events.errors import Unavailable
from events.models import Event
from notifications.models import Notification
from tests.concurrency.points import at
from tests.factories import make_users
from tests.faults.proxy import Proxies, Proxy
from tests.sales import NOBODY, Crash, assert_sold_out_exactly, assert_sum, make_due, reserve

Sale = Callable[..., Event]

IN_A_DRAIN = (
    "before the drain lock",
    "with the drain lock",
    "after the read of the log",
    "after the coupons",
    "after the insert",
    "before commit",
    "after commit",
    "before settle",
    "after settle",
)
IN_A_LOAD = (
    "before the stock is taken down",
    "after the stock is taken down",
    "before a load settles leftovers",
    "after the read of the log",
    "before the epoch is saved",
    "before the load",
    "with the claimants prepared",
    "after the load",
    "before commit",
    "after commit",
)


def terminate() -> None:
    """End our own session, as an operator would: it is over when this returns."""
    connection.ensure_connection()
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.connection.info.backend_pid])


@contextmanager
def terminated_at(point: str) -> Iterator[None]:
    """Whoever comes to the point loses the session. What then fails, fails with an error that a task tries again."""
    ended = []

    def end() -> None:
        terminate()
        ended.append(point)

    with at(point, end), suppress(OperationalError):
        yield
    assert ended, "it did not come to the point"
    connection.close()


def crash() -> None:
    raise Crash


def begun(sale: Sale, store: StockStore) -> tuple[Event, list[int]]:
    """A sale of ten, of which seven are claimed; the event, and the three who have not claimed yet."""
    event, users = sale(quantity=10), make_users(10)
    reserve(store, event, *users[:7])
    return event, users[7:]


def sell_out(store: StockStore, event: Event, others: list[int]) -> int:
    """The others claim, and it ends exactly right; how many coupons were written for that."""
    reserve(store, event, *others)
    written = issue_claims(event.id, store)
    assert_sold_out_exactly(store, event)
    return written


# Sessions that are ended ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", IN_A_DRAIN)
def test_a_drain(sale: Sale, store: StockStore, point: str) -> None:
    event, others = begun(sale, store)
    with terminated_at(point):
        issue_claims(event.id, store, batch=3)
    written = Coupon.objects.count()
    assert written == (3 if point in ("after commit", "before settle", "after settle") else 0)
    assert store.snapshot(event.id).backlog == (4 if point in ("after commit", "before settle", "after settle") else 7)
    assert sell_out(store, event, others) == 10 - written
    assert Notification.objects.count() == 10


def test_a_drain_that_has_a_unit_to_give_back(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=3)
    reserve(store, event, NOBODY)
    for _ in range(3):
        issue_claims(event.id, store)
        make_due(event)
    with terminated_at("before release"):
        issue_claims(event.id, store)
    issue_claims(event.id, store)
    assert store.snapshot(event.id).stock == 3, "given back once"
    FailedClaim.objects.all().delete()
    reserve(store, event, *make_users(3))
    issue_claims(event.id, store)
    assert_sum(store, event)
    assert Coupon.objects.count() == 3


@pytest.mark.parametrize(
    "point",
    [
        "before the look at damage",
        "before the snapshot",
        "before settling leftovers",
        "after the read of the log",
        "after settle",
        "after settling leftovers",
        "before the difference is noted",
        "before commit",
        "after commit",
    ],
)
def test_a_reconciliation_that_settles_what_a_crash_left(sale: Sale, store: StockStore, point: str) -> None:
    event, others = begun(sale, store)
    with at("before settle", crash), pytest.raises(Crash):
        issue_claims(event.id, store, batch=3)
    with terminated_at(point):
        reconcile(event.id, store)
    assert reconcile(event.id, store) == []
    assert_sum(store, event)
    assert sell_out(store, event, others) == 7


@pytest.mark.parametrize("point", IN_A_LOAD)
def test_a_load(sale: Sale, store: StockStore, point: str) -> None:
    event, others = begun(sale, store)
    issue_claims(event.id, store)
    reserve(store, event, *others[:2])
    store.unload(event.id)
    with terminated_at(point):
        reconcile(event.id, store)
    reconcile(event.id, store)
    assert_sum(store, event)
    sell_out(store, event, others[2:])
    assert reconcile(event.id, store) == []


@pytest.mark.parametrize(
    "point",
    [
        "before the drain of a sale that comes back",
        *IN_A_DRAIN,
        "after the drain of a sale that comes back",
        "after the stock is taken down",
        "before the load",
        "with the claimants prepared",
        "after the load",
    ],
)
def test_a_sale_that_comes_back_to_redis(sale: Sale, store: StockStore, point: str) -> None:
    event, others = begun(sale, store)
    modes.fall_back(event.id, epoch=1)
    with terminated_at(point):
        modes.sell_from_redis(event.id, store)
    event.refresh_from_db()
    assert event.stock_mode == Event.StockMode.DATABASE
    assert modes.sell_from_redis(event.id, store).stock_mode == Event.StockMode.REDIS
    sell_out(store, event, others)


@pytest.mark.parametrize(
    "point",
    [
        "before the row of the event",
        "with the row of the event",
        "after the coupons",
        "after the direct issue",
        "before commit",
        "after commit",
    ],
)
def test_a_claim_in_the_database(sale: Sale, store: StockStore, point: str) -> None:
    event, users = sale(quantity=3), make_users(3)
    modes.fall_back(event.id, epoch=1)
    store.unload(event.id)
    known = services.known_event(event.id)
    with suppress(Unavailable), terminated_at(point):
        WITHOUT_REDIS.claim(known, users[0], "digest")
    assert Coupon.objects.count() == (point == "after commit")
    for user in users:
        WITHOUT_REDIS.claim(known, user, "digest")
    assert_sold_out_exactly(store, event)


# Answers that are lost ------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(transactional_db: None) -> Iterator[Proxy]:
    """Between us and PostgreSQL."""
    params = connection.get_connection_params()
    before = dict(connection.settings_dict)
    with Proxies() as proxies:
        made = proxies.open(Path(params["host"]) / f".s.PGSQL.{params.get('port') or 5432}")
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]
        connection.settings_dict.update(HOST="127.0.0.1", PORT=str(made.port))
        yield made
        made.pass_on()
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]
        connection.settings_dict.update(before)
    breaker.succeeded()


@contextmanager
def commit_unheard(proxy: Proxy) -> Iterator[None]:
    """PostgreSQL commits, and whoever asked for it never hears of it."""
    with at("before commit", proxy.drop_replies), patience(1):
        yield
    proxy.pass_on()
    connection.close()


def test_a_commit_of_a_drain_that_was_not_heard_of_is_met_by_running_again(
    sale: Sale, store: StockStore, proxy: Proxy
) -> None:
    event, users = sale(quantity=10), make_users(10)
    reserve(store, event, *users)
    with commit_unheard(proxy), pytest.raises(OperationalError, match="PostgreSQL"):
        issue_claims(event.id, store, batch=3)
    assert Coupon.objects.count() == 3
    assert store.snapshot(event.id).backlog == 10
    assert issue_claims(event.id, store) == 7
    assert_sold_out_exactly(store, event)


def test_a_commit_of_a_load_that_was_not_heard_of_is_met_by_running_again(
    sale: Sale, store: StockStore, proxy: Proxy
) -> None:
    event, others = begun(sale, store)
    store.unload(event.id)
    with commit_unheard(proxy), pytest.raises(OperationalError, match="PostgreSQL"):
        reconcile(event.id, store)
    event.refresh_from_db()
    assert event.epoch == store.snapshot(event.id).epoch == 2
    assert reconcile(event.id, store) == []
    sell_out(store, event, others)


def test_a_commit_of_a_claim_in_the_database_that_was_not_heard_of_gets_its_answer_when_asked_again(
    sale: Sale, store: StockStore, proxy: Proxy
) -> None:
    event, (user,) = sale(quantity=1), make_users(1)
    modes.fall_back(event.id, epoch=1)
    store.unload(event.id)
    catalogue.refresh()
    claim = partial(services.claim, event_id=event.id, user_id=user, idempotency_key="key")
    with commit_unheard(proxy), pytest.raises(Unavailable):
        claim()
    again = claim()
    assert (again.result, again.claim.status) == ("repeated", "issued")
    assert_sold_out_exactly(store, event)


# Time-outs ------------------------------------------------------------------------------------------------------------


@contextmanager
def session_with(**milliseconds: int) -> Iterator[None]:
    """Our session, with time-outs of its own."""
    with connection.cursor() as cursor:
        for name, value in milliseconds.items():
            cursor.execute("SELECT set_config(%s, %s, false)", [name, str(value)])
    yield
    connection.close_pool()  # type: ignore[attr-defined]
    connection.close()


@pytest.mark.parametrize(
    ("timeout", "held"),
    [
        ("lock_timeout", "SELECT 1 FROM events_event FOR UPDATE"),
        ("statement_timeout", "LOCK TABLE coupons_coupon"),
    ],
)
def test_a_drain_that_waits_too_long_costs_nothing(sale: Sale, store: StockStore, timeout: str, held: str) -> None:
    event, users = sale(quantity=10), make_users(10)
    reserve(store, event, *users)
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute(held)
        with session_with(**{timeout: 100}), pytest.raises(OperationalError, match=timeout.replace("_", " ")):
            issue_claims(event.id, store)
    assert store.snapshot(event.id).backlog == 10
    assert issue_claims(event.id, store) == 10
    assert_sold_out_exactly(store, event)
