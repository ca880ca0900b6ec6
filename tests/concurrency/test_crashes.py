"""A process is killed at each point of a claim's way, and each time the sale ends exactly right."""

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from django.db import transaction

from coupons import services
from coupons.issuing import issue_claims
from coupons.locks import take_drain_lock
from coupons.models import Coupon, FailedClaim, Reconciliation
from coupons.reconciling import reconcile
from coupons.stock.store import StockStore
from events import services as sales
from events.models import Event
from notifications.models import Notification
from tests.concurrency.children import environment
from tests.factories import make_event, make_users
from tests.sales import NOBODY, assert_sold_out_exactly, assert_sum, make_due, reserve

Sale = Callable[..., Event]


def kill_at(point: str, work: str, event: Event, *users: int) -> None:
    """Have a process do its work and die at the point; return when the database has noticed, too."""
    command = [sys.executable, "-m", "tests.concurrency.crashing", "SIGKILL", point, work]
    command += [str(number) for number in (event.id, *users)]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL, f"it did not come to the point: {ended.stdout}{ended.stderr}"
    with transaction.atomic():
        take_drain_lock(event.id)  # what the dead held is let go when its connection is found broken


@pytest.mark.parametrize("work", ["drain", "drain full batches"])
@pytest.mark.parametrize(
    ("point", "written"),
    [
        ("after the read of the log", 0),
        ("after the insert", 0),
        ("before commit", 0),
        ("after commit", 3),
        ("before settle", 3),
        ("after settle", 3),
    ],
)
def test_a_drainer_that_is_killed_leaves_a_sale_that_ends_exactly_right(
    sale: Sale, store: StockStore, point: str, written: int, work: str
) -> None:
    event, users = sale(quantity=10), make_users(10)
    reserve(store, event, *users[:7])
    kill_at(point, work, event)
    assert Coupon.objects.count() == written
    assert store.snapshot(event.id).backlog == (4 if point == "after settle" else 7)
    reserve(store, event, *users[7:])
    assert issue_claims(event.id, store) == 10 - written
    assert_sold_out_exactly(store, event)
    assert Notification.objects.count() == 10
    for _ in range(2):
        assert reconcile(event.id, store) == []


@pytest.mark.parametrize("point", ["after commit", "before settle"])
def test_what_reconciling_finds_right_after_a_kill_is_no_drift(sale: Sale, store: StockStore, point: str) -> None:
    event, users = sale(quantity=10), make_users(7)
    reserve(store, event, *users)
    kill_at(point, "drain", event)
    for _ in range(2):
        assert reconcile(event.id, store) == []
    assert_sum(store, event)
    issue_claims(event.id, store)
    assert Coupon.objects.count() == 7
    assert not Reconciliation.objects.exists()


def test_a_process_killed_before_it_could_answer_has_taken_one_unit_for_good(sale: Sale, store: StockStore) -> None:
    """The reservation and the log entry are one: who asks again gets what the dead process had for them."""
    event, users = sale(quantity=3), make_users(3)
    kill_at("after reserve", "claim", event, users[0])
    again = services.claim(event_id=event.id, user_id=users[0], idempotency_key="key")
    assert (again.result, again.claim.id.sequence) == ("repeated", 1)
    reserve(store, event, *users[1:])
    issue_claims(event.id, store)
    assert_sold_out_exactly(store, event)


def test_a_drainer_killed_before_it_gave_a_unit_back_has_it_given_back_once(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=3)
    reserve(store, event, NOBODY)
    for _ in range(3):
        issue_claims(event.id, store)
        make_due(event)
    kill_at("before release", "drain", event)
    assert FailedClaim.objects.get().status == "rejected"
    assert store.snapshot(event.id).stock == 2
    issue_claims(event.id, store)
    assert store.snapshot(event.id).stock == 3
    FailedClaim.objects.all().delete()
    reserve(store, event, *make_users(3))
    issue_claims(event.id, store)
    event.refresh_from_db()
    assert event.issued == Coupon.objects.count() == 3


def test_a_publication_killed_after_its_load_is_as_if_it_had_not_been(
    transactional_db: None, store: StockStore
) -> None:
    event, users = make_event(quantity=3), make_users(3)
    kill_at("after the load", "publish", event)
    event.refresh_from_db()
    assert (event.status, event.epoch) == ("draft", 0)
    sales.publish(event_id=event.id)
    reserve(store, event, *users)
    issue_claims(event.id, store)
    assert_sold_out_exactly(store, event)
