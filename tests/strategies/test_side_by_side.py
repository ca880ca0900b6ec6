"""With a row a unit claims do not wait for each other, only for operators; and what is issued is counted afterwards."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from unittest.mock import patch

import pytest
from django.db import connection, transaction

from coupons import at_once, services, units
from coupons.models import Coupon
from coupons.rush import evidence
from events import services as sales
from events.catalogue import catalogue
from events.errors import InvalidChange, Paused, SoldOut, Unavailable
from events.models import Event
from tests.factories import make_users
from tests.strategies.conftest import Forks
from tests.strategies.kit import assert_exactly, claim

Sale = Callable[..., Event]
Beside = Callable[[Callable[[], Any]], "Future[Any]"]
WITHIN = 10  # seconds that something may take which waits for nobody


@pytest.fixture
def event(sale: Sale) -> Event:
    event = sale(strategy="skip_locked", quantity=3)
    catalogue.refresh()
    return event


@pytest.fixture
def beside() -> Iterator[Beside]:
    """Have something done by another thread, on a connection of its own."""

    def on_a_connection(act: Callable[[], Any]) -> Any:
        try:
            return act()
        finally:
            connection.close()

    with ThreadPoolExecutor() as threads:
        yield lambda act: threads.submit(on_a_connection, act)


def wait_for_a_lock(*others: "Future[Any]") -> None:
    """Until each of them waits for a lock; none must come to its end."""
    with connection.cursor() as cursor:
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while cursor.execute(waits).fetchone()[0] < len(others):
            assert not any(other.done() for other in others)


def terms(event: Event, quantity: int) -> dict[str, Any]:
    names = ("opens_at", "closes_at", "per_user_limit", "rate_per_second", "burst")
    return {"event_id": event.pk, "quantity": quantity, **{name: getattr(event, name) for name in names}}


# Claims beside each other ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["skip_locked", "conditional_update"])
def test_a_claim_that_is_not_committed_holds_up_no_other(sale: Sale, beside: Beside, strategy: str) -> None:
    """It does where the units are a number on one row."""
    event, (one, other) = sale(strategy=strategy, quantity=3), make_users(2)
    with transaction.atomic():
        claim(event, one)
        claiming = beside(lambda: claim(event, other))
        if strategy == "skip_locked":
            assert claiming.result(WITHIN).claim.id.sequence == 2
        else:
            wait_for_a_lock(claiming)
    assert claiming.result(WITHIN).result == "accepted"
    catalogue.refresh()
    assert_exactly(event, 2)


def test_nobody_is_refused_for_a_unit_that_another_has_in_hand_and_puts_back(event: Event, beside: Beside) -> None:
    *users, last, late = make_users(4)
    for user in users:
        claim(event, user)
    with transaction.atomic():
        claim(event, last)
        with pytest.raises(Unavailable):
            beside(lambda: services.claim(event_id=event.pk, user_id=late)).result(WITHIN)
        transaction.set_rollback(True)
    assert claim(event, late).result == "accepted"
    catalogue.refresh()
    assert_exactly(event, 3)


# Operators ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guarded", [True, False])
def test_an_operator_waits_for_claims_under_way_and_has_them_counted(
    event: Event, beside: Beside, guarded: bool
) -> None:
    """Without the shared lock the sale is closed beside a claim, and what it has issued is not counted."""
    lock = "SELECT pg_advisory_xact_lock_shared(%(drain_lock)s);"
    assert units.ISSUE.startswith(lock)
    with patch.object(units, "ISSUE", units.ISSUE if guarded else units.ISSUE.removeprefix(lock)):
        with transaction.atomic():
            claim(event, make_users(1)[0])
            closing = beside(lambda: sales.close(event_id=event.pk))
            if guarded:
                wait_for_a_lock(closing)
            else:
                closing.result(WITHIN)
        assert closing.result(WITHIN).issued == (1 if guarded else 0)
    assert Coupon.objects.filter(event=event).count() == 1


def test_a_claim_waits_for_an_operators_change_and_is_decided_by_it(event: Event, beside: Beside) -> None:
    user = make_users(1)[0]
    with transaction.atomic():
        sales.pause(event_id=event.pk)
        claiming = beside(lambda: claim(event, user))
        wait_for_a_lock(claiming)
    with pytest.raises(Paused):
        claiming.result(WITHIN)
    assert event.units.count() == 3


def test_claims_that_come_later_do_not_pass_an_operator_who_waits(event: Event, beside: Beside) -> None:
    first, later = make_users(2)
    with transaction.atomic():
        claim(event, first)
        pausing = beside(lambda: sales.pause(event_id=event.pk))
        wait_for_a_lock(pausing)
        claiming = beside(lambda: claim(event, later))
        wait_for_a_lock(pausing, claiming)
    assert pausing.result(WITHIN).issued == 1
    with pytest.raises(Paused):
        claiming.result(WITHIN)


def test_the_quantity_falls_to_what_is_issued_and_no_further(event: Event) -> None:
    one, other, late = make_users(3)
    claim(event, one)
    claim(event, other)
    with pytest.raises(InvalidChange, match="cannot fall below 2"):
        sales.change(**terms(event, 1))
    sales.change(**terms(event, 2))
    assert not event.units.exists()
    with pytest.raises(SoldOut):
        claim(event, late)
    assert_exactly(event, 2)


# The count ------------------------------------------------------------------------------------------------------------


def issued(event: Event) -> int:
    return Event.objects.values_list("issued", flat=True).get(pk=event.pk)


def remaining(event: Event) -> int | None:
    known = catalogue.get(event.pk)
    assert known is not None
    return known.remaining


def test_a_claim_whose_process_dies_before_anybody_counts_is_counted(event: Event, forks: Forks) -> None:
    forks.kill(event, "after the statement", make_users(1)[0])
    assert (issued(event), Coupon.objects.count()) == (0, 1)
    catalogue.refresh()
    assert (issued(event), remaining(event)) == (1, 2)


def test_the_judge_of_a_rush_reads_what_is_issued_when_it_is_over(event: Event) -> None:
    before = evidence.before(event.pk)
    claim(event, make_users(1)[0])
    database = evidence.read(event.pk, before=before)
    assert (database.issued, len(database.coupons)) == (1, 1)


def test_whoever_finds_no_unit_free_spares_the_others_the_attempt(event: Event) -> None:
    *users, late, later = make_users(5)
    for user in users:
        claim(event, user)
    with patch.object(at_once, "issue", wraps=at_once.issue) as attempts:
        for user in (late, later, later):
            with pytest.raises(SoldOut):
                claim(event, user)
    assert attempts.call_count == 1
    assert issued(event) == 3


def test_who_shows_the_count_waits_for_nobody_who_has_the_row(event: Event, beside: Beside) -> None:
    claim(event, make_users(1)[0])
    with transaction.atomic():
        Event.objects.select_for_update(no_key=True).get(pk=event.pk)
        beside(catalogue.refresh).result(WITHIN)
        assert remaining(event) == 3
    catalogue.refresh()
    assert remaining(event) == 2


def test_a_count_that_comes_late_takes_nothing_back(event: Event, beside: Beside) -> None:
    one, other = make_users(2)
    claim(event, one)
    with transaction.atomic():
        Event.objects.select_for_update(no_key=True).get(pk=event.pk)
        late = beside(lambda: units.count([event.pk]))
        wait_for_a_lock(late)
        claim(event, other)
        assert units.count([event.pk]) == {event.pk: 2}
    assert late.result(WITHIN) == {}
    assert issued(event) == 2


def test_sales_of_other_ways_are_left_alone(sale: Sale) -> None:
    event = sale(strategy="conditional_update", quantity=3)
    claim(event, make_users(1)[0])
    Event.objects.update(issued=0)
    assert units.count([event.pk]) == {}
    assert issued(event) == 0
