"""One contract for all ways to hand out units: what each promises is held to, and each in the same words."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from coupons import selectors, services
from coupons.errors import AlreadyClaimed, UnknownUser
from coupons.models import Coupon, FailedClaim
from coupons.reconciling import reconcile
from coupons.stock.store import StockStore
from coupons.strategies import STRATEGIES, Strategy
from events import services as sales
from events.catalogue import catalogue
from events.errors import (
    Closed,
    EventNotFound,
    Invalid,
    InvalidChange,
    NotOpen,
    Paused,
    RateLimited,
    SoldOut,
    Unavailable,
)
from events.models import HOLDER_WAYS, Event
from notifications.models import Notification
from tests.factories import make_event, make_user, make_users
from tests.sales import NOBODY
from tests.strategies.conftest import Forks
from tests.strategies.kit import assert_exactly, assert_in_order, claim, settle
from tests.strategies.points import OF_A_DRAIN, STEPS, at

Sale = Callable[..., Event]

every = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=list(STRATEGIES))


# How many ------------------------------------------------------------------------------------------------------------


@every
def test_fifty_callers_in_four_processes_get_exactly_what_there_is(
    sale: Sale, forks: Forks, strategy: Strategy
) -> None:
    event, users = sale(strategy=strategy.name, quantity=20), make_users(50)
    told = forks.rush(event, users)
    settle(event)
    accepted = [one for one in told if one["code"] == "accepted"]
    refused = Counter(one["code"] for one in told if one["code"] != "accepted")
    if strategy.refuses_truly:
        assert_exactly(event, 20)
    else:  # some left when no unit was to be had, and one was: whoever comes next has it
        for user in users:
            try:
                claim(event, user)
            except (SoldOut, AlreadyClaimed):
                continue
        assert_exactly(event, 20)
    if strategy.decides_at_once:
        assert set(refused) <= {"sold_out"}
        owners = set(Coupon.objects.values_list("user", flat=True))
        assert {one["user"] for one in accepted} <= owners
    else:
        rejected = FailedClaim.objects.filter(event=event, reason="sold_out", status="rejected")
        assert rejected.count() == len(accepted) - 20
        assert Notification.objects.filter(kind="claim_rejected").count() == len(accepted) - 20
    if strategy.ordered:
        assert_in_order(accepted)


@every
def test_one_user_in_four_processes_gets_one(sale: Sale, forks: Forks, strategy: Strategy) -> None:
    event, user = sale(strategy=strategy.name, quantity=20, burst=1000), make_user().pk
    told = forks.rush(event, [user] * 24)
    settle(event)
    assert Counter(one["code"] for one in told) == {"accepted": 1, "already_claimed": 23}
    assert_exactly(event, 1)


# What is answered -----------------------------------------------------------------------------------------------------


@every
def test_a_claim_is_told_and_found_again_by_its_owner_only(sale: Sale, strategy: Strategy) -> None:
    event, (user, other) = sale(strategy=strategy.name, quantity=2), make_users(2)
    claimed = claim(event, user)
    assert claimed.claim.status == ("issued" if strategy.at_once else "pending")
    name = str(claimed.claim.id)
    assert selectors.claim_of(event_id=event.pk, user_id=user, claim_id=name).status == claimed.claim.status
    settle(event)
    for told in (
        selectors.claim_of(event_id=event.pk, user_id=user, claim_id=name),
        selectors.claims_of(event_id=event.pk, user_id=user)[0],
    ):
        assert told.status == "issued"
        assert told.coupon is not None
        assert told.coupon.code == Coupon.objects.get().code
    with pytest.raises(Exception, match="no such claim"):
        selectors.claim_of(event_id=event.pk, user_id=other, claim_id=name)


@every
def test_a_request_that_is_sent_again_has_its_first_answer_and_another_has_none(sale: Sale, strategy: Strategy) -> None:
    event, user = sale(strategy=strategy.name, quantity=3), make_user().pk
    first = claim(event, user, "key")
    assert first.result == "accepted"
    for _ in range(2):
        again = claim(event, user, "key")
        assert (again.result, again.claim.id) == ("repeated", first.claim.id)
        settle(event)
    for key in ("another", ""):
        with pytest.raises(AlreadyClaimed) as refused:
            claim(event, user, key)
        assert refused.value.claim.id == first.claim.id
    sales.close(event_id=event.pk)
    catalogue.refresh()
    assert claim(event, user, "key").claim.id == first.claim.id
    assert_exactly(event, 1)


@every
def test_refusals_are_those_of_the_contract(sale: Sale, strategy: Strategy) -> None:
    now, (first, second) = timezone.now(), make_users(2)
    with pytest.raises(EventNotFound):
        claim(make_event(strategy=strategy.name), first)
    event = sale(strategy=strategy.name, quantity=1, opens_at=now + timedelta(minutes=5))
    with pytest.raises(NotOpen) as early:
        claim(event, first)
    assert abs(early.value.opens_at - event.opens_at) < timedelta(milliseconds=1)
    event = sale(strategy=strategy.name, quantity=1)
    sales.pause(event_id=event.pk)
    with pytest.raises(Paused):
        claim(event, first)
    sales.resume(event_id=event.pk)
    catalogue.refresh()
    claim(event, first)
    settle(event)
    with pytest.raises(SoldOut):
        claim(event, second)
    sales.close(event_id=event.pk)
    with pytest.raises(Closed):
        claim(event, second)
    assert_exactly(event, 1)


@every
def test_who_asks_too_often_is_told_so_where_that_is_promised(sale: Sale, strategy: Strategy) -> None:
    event, user = sale(strategy=strategy.name, quantity=2, rate_per_second=1, burst=1), make_user().pk
    claim(event, user)
    with pytest.raises(RateLimited if strategy.limits_requests else AlreadyClaimed):
        claim(event, user)


@every
def test_several_units_are_claimed_at_once_where_that_is_promised(sale: Sale, strategy: Strategy) -> None:
    limit = 1 if strategy.name in HOLDER_WAYS else 2
    event, user = sale(strategy=strategy.name, quantity=3, per_user_limit=limit), make_user().pk
    if strategy.several:
        assert services.claim(event_id=event.pk, user_id=user, quantity=2).claim.quantity == 2
        settle(event)
        assert Coupon.objects.filter(user=user).count() == 2
    else:
        with pytest.raises(Invalid):
            services.claim(event_id=event.pk, user_id=user, quantity=2)
        assert not Coupon.objects.exists()
        claim(event, user)


@every
def test_a_user_who_is_gone_takes_no_unit_for_good(sale: Sale, strategy: Strategy) -> None:
    event, user = sale(strategy=strategy.name, quantity=1), make_user().pk
    try:
        claim(event, NOBODY)
    except UnknownUser:
        assert strategy.at_once
    else:  # accepted, and found out when it was to be written
        assert event.logs_claims
        for _ in range(4):
            settle(event)
            FailedClaim.objects.exclude(next_attempt_at=None).update(next_attempt_at=timezone.now())
        assert FailedClaim.objects.get().status == "rejected"
    claim(event, user)
    settle(event)
    assert_exactly(event, 1)


@every
def test_the_quantity_can_be_changed_and_holds(sale: Sale, strategy: Strategy) -> None:
    event, users = sale(strategy=strategy.name, quantity=2), make_users(6)
    terms = Event.objects.values("opens_at", "closes_at", "per_user_limit", "rate_per_second", "burst").get(pk=event.pk)
    claim(event, users[0])
    settle(event)
    for quantity, more in ((5, 3), (4, 0)):
        sales.change(event_id=event.pk, quantity=quantity, **terms)
        catalogue.refresh()
        for user in users[1 : 1 + more]:
            claim(event, user)
            settle(event)
    with pytest.raises(SoldOut):
        claim(event, users[5])
    assert_exactly(event, 4)


# What a crash leaves --------------------------------------------------------------------------------------------------


def assert_the_first_is_served_all_the_same(event: Event, users: list[int]) -> None:
    """Of four who come for three units, although the first one's claim broke off: by the same request once more."""
    for user in users[1:3]:
        assert claim(event, user).result == "accepted"
    settle(event)
    mine = claim(event, users[0], "key")
    assert claim(event, users[0], "key").claim.id == mine.claim.id
    settle(event)
    assert_exactly(event, 3)
    with pytest.raises(SoldOut):
        claim(event, users[3])


@pytest.mark.parametrize(("name", "step"), [(name, step) for name, steps in STEPS.items() for step in steps])
def test_a_process_that_is_killed_has_its_claim_finished_by_the_next_request(
    sale: Sale, forks: Forks, name: str, step: str
) -> None:
    event, users = sale(strategy=name, quantity=3), make_users(4)
    forks.kill(event, step, users[0])
    assert_the_first_is_served_all_the_same(event, users)


@pytest.mark.parametrize(("name", "step"), [(name, step) for name, steps in STEPS.items() for step in steps])
def test_a_claim_whose_session_is_ended_is_finished_by_the_next_request(sale: Sale, name: str, step: str) -> None:
    event, users = sale(strategy=name, quantity=3), make_users(4)
    with at(step, end_session), suppress(Unavailable):
        services.claim(event_id=event.pk, user_id=users[0], idempotency_key="key")
    connection.close()
    assert_the_first_is_served_all_the_same(event, users)


def end_session() -> None:
    """PostgreSQL ends the session that the claim is using, or would use next."""
    connection.ensure_connection()
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.connection.info.backend_pid])


@pytest.mark.parametrize("step", OF_A_DRAIN)
def test_a_worker_that_is_killed_leaves_a_queue_that_ends_exactly_right(
    sale: Sale, forks: Forks, store: StockStore, step: str
) -> None:
    event, users = sale(strategy="list_queue", quantity=3), make_users(5)
    for user in users:
        claim(event, user)
    forks.kill(event, step, work="drain")
    settle(event)
    assert list(Coupon.objects.order_by("id").values_list("user", flat=True)) == users[:3]
    assert sorted(FailedClaim.objects.values_list("user_id", "reason")) == [(user, "sold_out") for user in users[3:]]
    assert_exactly(event, 3)
    for _ in range(2):
        assert reconcile(event.pk, store) == []


def test_an_operator_can_issue_what_came_too_late_for_the_queue_once_there_is_a_unit(sale: Sale) -> None:
    event, users = sale(strategy="list_queue", quantity=1), make_users(2)
    for user in users:
        claim(event, user)
    settle(event)
    late = FailedClaim.objects.get()
    with pytest.raises(InvalidChange, match="No unit is left"):
        services.retry_failed_claim(failed_id=late.pk)
    terms = Event.objects.values("opens_at", "closes_at", "per_user_limit", "rate_per_second", "burst").get(pk=event.pk)
    sales.change(event_id=event.pk, quantity=2, **terms)
    assert services.retry_failed_claim(failed_id=late.pk).status == "issued"
    assert_exactly(event, 2)
