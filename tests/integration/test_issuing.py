"""Issuing: exactly once through every crash, one bad row alone, nothing vanishes, the order kept."""

from collections.abc import Callable
from unittest.mock import patch

import pytest
from django.db import OperationalError, connection
from redis.exceptions import ConnectionError as RedisConnectionError

from coupons import issuing, rows, tasks
from coupons.issuing import issue_claims
from coupons.locks import NAMESPACE
from coupons.models import Coupon, FailedClaim
from coupons.selectors import claim_of
from coupons.stock.store import StockStore
from events.models import Event
from notifications.models import Notification
from tests.factories import make_user, make_users
from tests.outages import no_redis
from tests.sales import (
    NOBODY,
    Crash,
    assert_sold_out_exactly,
    assert_sum,
    back_up,
    load_too_high,
    make_due,
    reserve,
    roll_back,
)

Sale = Callable[..., Event]
Status, Reason = FailedClaim.Status, FailedClaim.Reason


# In order, once ------------------------------------------------------------------------------------------------------


def test_a_claim_becomes_a_coupon_and_a_notification(sale: Sale, store: StockStore) -> None:
    event, user = sale(quantity=2), make_user()
    (entry,) = reserve(store, event, user.pk)
    assert issue_claims(event.id, store) == 1
    coupon = Coupon.objects.get()
    assert (coupon.event_id, coupon.user_id, coupon.ordinal) == (event.id, user.pk, 1)
    assert (coupon.epoch, coupon.sequence) == (1, 1)
    assert round(coupon.claimed_at.timestamp() * 1000) == entry.claimed_ms
    assert coupon.issued_at >= coupon.claimed_at
    told = Notification.objects.get()
    assert (told.user_id, told.kind, told.key) == (user.pk, "coupon_issued", f"coupon_issued:{event.id}-1-1")
    assert told.data == {"event_id": event.id, "claim_id": f"{event.id}-1-1", "code": coupon.code}
    assert_sum(store, event)
    assert store.snapshot(event.id).drained == 1


def test_claims_are_issued_in_their_order_over_many_batches(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=25), make_users(25)
    reserve(store, event, *reversed(users))
    assert issue_claims(event.id, store, batch=4) == 25
    assert list(Coupon.objects.order_by("id").values_list("user_id", flat=True)) == users[::-1]
    assert_sold_out_exactly(store, event)


def test_an_empty_log_is_drained_at_once(sale: Sale, store: StockStore) -> None:
    assert issue_claims(sale().id, store) == 0


def test_an_empty_log_is_nothing_to_ask_the_database_about(
    sale: Sale, store: StockStore, django_assert_num_queries
) -> None:
    """After an outage nudges by the hundred are tried again, and one of them has drained it all."""
    event = sale()
    with django_assert_num_queries(0):
        issue_claims(event.id, store)


def test_two_events_are_drained_apart(sale: Sale, store: StockStore) -> None:
    one, other, user = sale(), sale(), make_user()
    reserve(store, one, user.pk)
    reserve(store, other, user.pk)
    assert issue_claims(one.id, store) == 1
    assert (Coupon.objects.filter(event=one).count(), Coupon.objects.filter(event=other).count()) == (1, 0)
    assert store.snapshot(other.id).backlog == 1


def test_a_user_may_hold_as_many_as_the_limit_says(sale: Sale, store: StockStore) -> None:
    event, user = sale(per_user_limit=3), make_user()
    reserve(store, event, user.pk, user.pk, user.pk)
    assert issue_claims(event.id, store) == 3
    assert sorted(Coupon.objects.values_list("ordinal", flat=True)) == [1, 2, 3]


def test_a_drainer_that_finds_another_at_work_leaves_at_once(sale: Sale, store: StockStore) -> None:
    event, user = sale(), make_user()
    reserve(store, event, user.pk)
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [NAMESPACE + event.id])
            assert issue_claims(event.id, store) == 0
            assert store.snapshot(event.id).backlog == 1
            cursor.execute("SELECT pg_advisory_unlock(%s)", [NAMESPACE + event.id])
    finally:
        other.close()
    assert issue_claims(event.id, store) == 1


# Crashes and replays --------------------------------------------------------------------------------------------------


def test_what_was_committed_and_not_settled_is_met_again_and_passed_over(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=5), make_users(5)
    reserve(store, event, *users[:3])
    with patch.object(issuing, "_settle", side_effect=Crash), pytest.raises(Crash):
        issue_claims(event.id, store)
    before = list(Coupon.objects.order_by("id").values())
    assert store.snapshot(event.id).backlog == 3
    reserve(store, event, *users[3:])
    assert issue_claims(event.id, store) == 2
    assert list(Coupon.objects.order_by("id").values())[:3] == before, "the first run's rows, codes and all"
    assert Notification.objects.count() == 5
    assert_sold_out_exactly(store, event)


def test_what_was_not_committed_is_issued_by_the_next_run(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=3), make_users(3)
    reserve(store, event, *users)
    with patch.object(issuing, "count_issued", side_effect=Crash), pytest.raises(Crash):
        issue_claims(event.id, store)
    assert (Coupon.objects.count(), store.snapshot(event.id).backlog) == (0, 3)
    issue_claims(event.id, store)
    assert_sold_out_exactly(store, event)


def test_a_replay_when_all_is_issued_rejects_nobody(sale: Sale, store: StockStore) -> None:
    """The guard finds nothing left; what is there already is no surplus."""
    event, users = sale(quantity=3), make_users(3)
    reserve(store, event, *users)
    with patch.object(issuing, "_settle", side_effect=Crash), pytest.raises(Crash):
        issue_claims(event.id, store)
    assert issue_claims(event.id, store) == 0
    assert_sold_out_exactly(store, event)


def test_what_is_issued_and_not_settled_does_not_fail_when_its_row_is_refused_the_second_time(
    sale: Sale, store: StockStore
) -> None:
    event, (user,) = sale(quantity=3), make_users(1)
    reserve(store, event, user)
    with patch.object(issuing, "_settle", side_effect=Crash), pytest.raises(Crash):
        issue_claims(event.id, store)
    with patch.object(rows, "new_code", return_value="x" * 25):  # refused before the conflict is looked at
        issue_claims(event.id, store)
    assert not FailedClaim.objects.exists()
    assert store.snapshot(event.id).backlog == 0
    assert_sum(store, event)


def test_redis_going_away_after_the_commit_loses_nothing(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=3), make_users(3)
    reserve(store, event, *users)
    with patch.object(StockStore, "settle", side_effect=RedisConnectionError), pytest.raises(RedisConnectionError):
        issue_claims(event.id, store)
    assert Coupon.objects.count() == 3
    issue_claims(event.id, store)
    assert_sold_out_exactly(store, event)


# Redis lost data ------------------------------------------------------------------------------------------------------


def test_claims_beyond_the_quantity_are_rejected_in_order(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=3), make_users(6)
    load_too_high(store, event, 3)
    reserve(store, event, *users)
    assert issue_claims(event.id, store) == 3
    assert list(Coupon.objects.order_by("id").values_list("user_id", flat=True)) == users[:3]
    rejected = FailedClaim.objects.order_by("sequence")
    assert [(one.user_id, one.status, one.reason) for one in rejected] == [
        (user, Status.REJECTED, Reason.STOCK_EXHAUSTED) for user in users[3:]
    ]
    assert Notification.objects.filter(kind="claim_rejected").count() == 3
    assert (store.snapshot(event.id).stock, store.snapshot(event.id).backlog) == (0, 0), "no unit comes of nothing"
    event.refresh_from_db()
    assert event.issued == 3


def test_a_bad_row_among_the_last_leaves_its_unit_to_the_next(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=2), make_users(2)
    load_too_high(store, event, 1)
    reserve(store, event, users[0], NOBODY, users[1])
    assert issue_claims(event.id, store) == 2
    make_due(event)
    issue_claims(event.id, store)
    assert FailedClaim.objects.get().reason == Reason.STOCK_EXHAUSTED
    event.refresh_from_db()
    assert event.issued == event.quantity == Coupon.objects.count()


def test_a_user_whom_redis_forgot_gets_no_second_coupon_and_the_unit_goes_back(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=5), make_users(2)
    reserve(store, event, users[0])
    issue_claims(event.id, store)
    store.client.hdel(store._keys(event.id)[1], str(users[0]))
    (again, _) = reserve(store, event, *users)
    assert issue_claims(event.id, store) == 1
    failed = FailedClaim.objects.get()
    assert (failed.sequence, failed.status, failed.reason) == (again.sequence, Status.REJECTED, Reason.ALREADY_CLAIMED)
    assert_sum(store, event)
    assert Coupon.objects.filter(user_id=users[0]).count() == 1
    view = claim_of(event_id=event.id, user_id=users[0], claim_id=f"{event.id}-1-{again.sequence}")
    assert (view.status, view.reason) == ("rejected", "already_claimed")


def test_a_claim_with_the_number_of_anothers_coupon_is_rejected_and_does_not_vanish(
    sale: Sale, store: StockStore
) -> None:
    """Redis was rolled back and gave a number again: the name of the claim is in the database, its owner is not."""
    event, (first, second) = sale(quantity=5), make_users(2)
    back_up(store, event)
    reserve(store, event, first)
    issue_claims(event.id, store)
    roll_back(store, event)
    (entry,) = reserve(store, event, second)
    assert entry.entry_id == "1-1"
    assert issuing.settle_leftovers(event.id, store) == 0, "the coupon with this number is not this user's"
    for _ in range(4):
        issue_claims(event.id, store)
        make_due(event)
    assert claim_of(event_id=event.id, user_id=second, claim_id=f"{event.id}-1-1").status == "rejected"
    assert claim_of(event_id=event.id, user_id=first, claim_id=f"{event.id}-1-1").status == "issued"
    assert store.snapshot(event.id).backlog == 0


def test_a_surplus_claim_with_the_number_of_anothers_coupon_is_rejected_too(sale: Sale, store: StockStore) -> None:
    event, (first, second) = sale(quantity=1), make_users(2)
    back_up(store, event)
    reserve(store, event, first)
    issue_claims(event.id, store)
    roll_back(store, event)
    reserve(store, event, second)
    issue_claims(event.id, store)
    view = claim_of(event_id=event.id, user_id=second, claim_id=f"{event.id}-1-1")
    assert (view.status, view.reason) == ("rejected", "stock_exhausted")
    assert Coupon.objects.get().user_id == first


# The database or Redis is away ----------------------------------------------------------------------------------------


def test_without_the_database_the_log_keeps_everything_and_the_error_passes_through(
    sale: Sale, store: StockStore
) -> None:
    event, users = sale(quantity=3), make_users(3)
    reserve(store, event, *users)
    with patch.object(rows, "issue", side_effect=OperationalError), pytest.raises(OperationalError):
        issue_claims(event.id, store)
    assert (store.snapshot(event.id).backlog, FailedClaim.objects.count()) == (3, 0)
    issue_claims(event.id, store)
    assert_sold_out_exactly(store, event)


def test_the_task_is_retried_with_back_off_where_a_later_try_may_succeed() -> None:
    task = tasks.issue_claims
    assert set(task.autoretry_for) == set(tasks.PASSING)
    assert issubclass(RedisConnectionError, tasks.PASSING)
    assert task.retry_backoff
    assert task.retry_jitter
    assert task.max_retries >= 5
    assert task.acks_late


def test_a_sweep_without_redis_is_no_error(transactional_db: None) -> None:
    with no_redis():
        tasks.sweep()


def test_the_sweep_finds_every_log_that_holds_something(sale: Sale, store: StockStore) -> None:
    with_claims, _, user = sale(), sale(), make_user()
    reserve(store, with_claims, user.pk)
    with patch.object(tasks.issue_claims, "apply_async") as sent:
        tasks.sweep()
    assert [call.args for call in sent.call_args_list] == [((with_claims.id,),)]
