"""Claims that cannot be issued: found by themselves, tried again, given up and told; what operators do with them."""

from collections.abc import Callable
from unittest.mock import patch

import pytest
from django.contrib.auth import get_user_model
from django.db import DataError, transaction
from django.utils import timezone

from coupons import failures, issuing, rows, services
from coupons.issuing import issue_claims
from coupons.models import ClaimId, Coupon, FailedClaim
from coupons.selectors import claim_of
from coupons.stock.codes import ReserveCode
from coupons.stock.store import StockStore
from events import services as sales
from events.errors import InvalidChange, Unavailable
from events.models import Event
from notifications.models import Notification
from tests.factories import make_user, make_users
from tests.outages import no_redis
from tests.sales import (
    NOBODY,
    Crash,
    assert_sum,
    make_due,
    reserve,
)

Sale = Callable[..., Event]
Status, Reason = FailedClaim.Status, FailedClaim.Reason


# The database says no to one row --------------------------------------------------------------------------------------


def test_one_bad_row_is_found_and_its_neighbours_are_issued(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=10), make_users(8)
    users.insert(4, NOBODY)
    reserve(store, event, *users)
    assert issue_claims(event.id, store) == 8
    failed = FailedClaim.objects.get()
    assert (failed.user_id, failed.sequence, failed.status, failed.attempts) == (NOBODY, 5, Status.RETRYING, 1)
    assert failed.error.startswith("ForeignKeyViolation: coupons_coupon_user_id")
    assert str(NOBODY) not in failed.error, "the row's values stay out"
    assert [entry.sequence for entry in store.read_log(event.id, count=9)] == [5]
    assert_sum(store, event)


def test_a_bad_row_is_tried_after_one_two_and_four_seconds_and_then_rejected(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=10)
    (entry,) = reserve(store, event, NOBODY)
    for attempt, seconds in enumerate((1, 2, 4), start=1):
        started = timezone.now()
        issue_claims(event.id, store)
        failed = FailedClaim.objects.get()
        assert (failed.status, failed.attempts) == (Status.RETRYING, attempt)
        assert failed.next_attempt_at is not None
        assert (
            started.timestamp() + seconds <= failed.next_attempt_at.timestamp() <= timezone.now().timestamp() + seconds
        )
        issue_claims(event.id, store)
        assert FailedClaim.objects.get().attempts == attempt, "not before its time"
        assert_sum(store, event)
        make_due(event)
    issue_claims(event.id, store)
    failed = FailedClaim.objects.get()
    assert (failed.status, failed.reason, failed.next_attempt_at) == (Status.REJECTED, Reason.ERROR, None)
    assert store.snapshot(event.id).stock == 10, "its unit is back"
    assert store.snapshot(event.id).backlog == 0
    assert store.held_by(event.id, NOBODY)[0] == []
    assert not Notification.objects.exists(), "there is nobody to tell"
    assert entry.sequence == failed.sequence


def test_a_row_that_was_mended_meanwhile_is_issued(sale: Sale, store: StockStore) -> None:
    event = sale()
    reserve(store, event, NOBODY)
    issue_claims(event.id, store)
    get_user_model().objects.create(pk=NOBODY, username="late")
    assert issue_claims(event.id, store) == 0, "not before its time"
    make_due(event)
    assert issue_claims(event.id, store) == 1
    failed = FailedClaim.objects.get()
    assert (failed.status, failed.next_attempt_at) == (Status.ISSUED, None)
    assert claim_of(event_id=event.id, user_id=NOBODY, claim_id=f"{event.id}-1-1").status == "issued"
    assert_sum(store, event)


def test_while_a_claim_is_retried_its_owner_sees_it_pending_and_then_why_it_was_rejected(
    sale: Sale, store: StockStore
) -> None:
    event, user = sale(quantity=3), make_user()
    (entry,) = reserve(store, event, user.pk)
    name = str(ClaimId(event.id, entry.epoch, entry.sequence))
    with patch.object(rows, "new_code", return_value="x" * 25):  # longer than its column: a DataError
        for _ in range(4):
            assert claim_of(event_id=event.id, user_id=user.pk, claim_id=name).status == "pending"
            issue_claims(event.id, store)
            make_due(event)
    view = claim_of(event_id=event.id, user_id=user.pk, claim_id=name)
    assert (view.status, view.reason) == ("rejected", "error")
    told = Notification.objects.get()
    assert (told.user_id, told.kind) == (user.pk, "claim_rejected")
    assert told.data == {"event_id": event.id, "claim_id": name, "reason": "error"}
    assert reserve(store, event, user.pk)[0].ordinal == 1, "the user may claim again"
    assert issue_claims(event.id, store) == 1


def test_a_collision_of_codes_is_not_taken_for_a_coupon_that_exists(sale: Sale, store: StockStore) -> None:
    """A bare ON CONFLICT DO NOTHING would swallow the second claim: no coupon, no failure, no trace."""
    event, users = sale(quantity=5), make_users(2)
    reserve(store, event, *users)
    with patch.object(rows, "new_code", return_value="AAAA-AAAA-AAAA-AAAA"):
        assert issue_claims(event.id, store) == 1
    failed = FailedClaim.objects.get()
    assert (failed.status, failed.sequence) == (Status.RETRYING, 2)
    assert "code" in failed.error
    make_due(event)
    assert issue_claims(event.id, store) == 1, "with another code it goes"
    assert_sum(store, event)


def test_a_digest_that_is_none_fails_by_itself_and_goes_to_nobody_else(sale: Sale, store: StockStore) -> None:
    """The batch's digests are one text to the database; one with a quote in it would be two of them."""
    event, users = sale(quantity=5), make_users(3)
    digests = ["AAAAAAAAAAA", 'a","b', "BBBBBBBBBBB"]
    store.reserve(event.id, epoch=1, claims=list(zip(users, digests, strict=True)))
    assert issue_claims(event.id, store) == 2
    assert list(Coupon.objects.order_by("id").values_list("user_id", "request")) == [
        (users[0], digests[0]),
        (users[2], digests[2]),
    ]
    assert FailedClaim.objects.get().user_id == users[1]
    assert_sum(store, event)


def test_a_crash_between_a_rejection_and_its_release_gives_the_unit_back_once(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=10)
    (entry,) = reserve(store, event, NOBODY)
    for _ in range(3):
        issue_claims(event.id, store)
        make_due(event)
    with patch.object(issuing, "_settle", side_effect=Crash), pytest.raises(Crash):
        issue_claims(event.id, store)
    assert FailedClaim.objects.get().status == Status.REJECTED
    assert (store.snapshot(event.id).stock, store.snapshot(event.id).backlog) == (9, 1)
    for _ in range(2):
        issue_claims(event.id, store)
        assert (store.snapshot(event.id).stock, store.snapshot(event.id).backlog) == (10, 0)
    assert store.in_log(event.id, [entry.entry_id]) == set()


def test_a_claim_that_is_retried_holds_up_nobody_behind_it(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=5), make_users(4)
    reserve(store, event, NOBODY)
    issue_claims(event.id, store)
    reserve(store, event, *users)
    assert issue_claims(event.id, store, batch=1) == 4
    assert_sum(store, event)


# Operators ------------------------------------------------------------------------------------------------------------


def rejected(store: StockStore, event: Event, user_id: int) -> FailedClaim:
    """A claim that was rejected because of its row."""
    reserve(store, event, user_id)
    with patch.object(rows, "new_code", return_value="x" * 25):
        for _ in range(4):
            issue_claims(event.id, store)
            make_due(event)
    failed = FailedClaim.objects.get(event=event, user_id=user_id)
    assert failed.status == Status.REJECTED
    return failed


def test_a_rejected_claim_is_issued_when_an_operator_retries_it(sale: Sale, store: StockStore) -> None:
    event, user = sale(quantity=2), make_user()
    failed = rejected(store, event, user.pk)
    services.retry_failed_claim(failed_id=failed.pk)
    coupon = Coupon.objects.get()
    assert (coupon.user_id, coupon.claim_id) == (user.pk, failed.claim_id)
    failed.refresh_from_db()
    assert failed.status == Status.ISSUED
    assert store.held_by(event.id, user.pk)[0][0].sequence == failed.sequence
    assert Notification.objects.filter(kind="coupon_issued").count() == 1
    assert_sum(store, event)
    event.refresh_from_db()
    answer = store.reserve(event.id, epoch=event.epoch, claims=[(user.pk, "")]).reservations[0]
    assert answer.code is ReserveCode.ALREADY_CLAIMED


def test_a_retry_without_a_unit_left_is_refused_and_changes_nothing(sale: Sale, store: StockStore) -> None:
    event, (user, other) = sale(quantity=1), make_users(2)
    failed = rejected(store, event, user)
    reserve(store, event, other)
    with pytest.raises(InvalidChange, match="No unit is left"):
        services.retry_failed_claim(failed_id=failed.pk)
    failed.refresh_from_db()
    assert failed.status == Status.REJECTED
    assert_sum(store, event)


def test_a_retry_for_a_user_who_claimed_again_is_refused_and_gives_the_unit_back(sale: Sale, store: StockStore) -> None:
    event, user = sale(quantity=5), make_user()
    failed = rejected(store, event, user.pk)
    reserve(store, event, user.pk)
    issue_claims(event.id, store)
    with pytest.raises(InvalidChange, match="holds this coupon already"):
        services.retry_failed_claim(failed_id=failed.pk)
    assert Coupon.objects.count() == 1
    assert_sum(store, event)


def test_a_retry_that_the_database_refuses_again_gives_the_unit_back(sale: Sale, store: StockStore) -> None:
    event, user = sale(quantity=5), make_user()
    failed = rejected(store, event, user.pk)
    with patch.object(rows, "new_code", return_value="x" * 25), pytest.raises(DataError):
        services.retry_failed_claim(failed_id=failed.pk)
    failed.refresh_from_db()
    assert failed.status == Status.REJECTED
    assert_sum(store, event)


def test_a_claim_of_a_closed_sale_can_be_retried(sale: Sale, store: StockStore) -> None:
    event, user = sale(quantity=2), make_user()
    failed = rejected(store, event, user.pk)
    sales.close(event_id=event.id)
    services.retry_failed_claim(failed_id=failed.pk)
    assert Coupon.objects.count() == 1
    assert_sum(store, event)


def test_a_retry_without_redis_is_unavailable_and_changes_nothing(sale: Sale, store: StockStore) -> None:
    event, user = sale(quantity=2), make_user()
    failed = rejected(store, event, user.pk)
    with no_redis(), pytest.raises(Unavailable):
        services.retry_failed_claim(failed_id=failed.pk)
    failed.refresh_from_db()
    assert failed.status == Status.REJECTED
    assert_sum(store, event)


def test_an_abandoned_claim_stays_rejected_to_its_owner_and_is_not_retried(sale: Sale, store: StockStore) -> None:
    event, user = sale(quantity=2), make_user()
    failed = rejected(store, event, user.pk)
    assert services.abandon_failed_claim(failed_id=failed.pk).status == Status.ABANDONED
    assert claim_of(event_id=event.id, user_id=user.pk, claim_id=str(failed.claim_id)).status == "rejected"
    for step in (services.retry_failed_claim, services.abandon_failed_claim):
        with pytest.raises(InvalidChange, match="is not rejected"):
            step(failed_id=failed.pk)


def test_a_claim_that_is_still_tried_cannot_be_taken_in_hand(sale: Sale, store: StockStore) -> None:
    event = sale()
    reserve(store, event, NOBODY)
    issue_claims(event.id, store)
    with pytest.raises(InvalidChange, match="being retried"):
        services.retry_failed_claim(failed_id=FailedClaim.objects.get().pk)


def test_a_rejection_is_told_once_however_often_it_is_written(sale: Sale, store: StockStore) -> None:
    event, user = sale(), make_user()
    (entry,) = reserve(store, event, user.pk)
    for _ in range(2):
        with transaction.atomic():
            failures.reject(event.id, [entry], Reason.STOCK_EXHAUSTED)
    assert (FailedClaim.objects.count(), Notification.objects.count()) == (1, 1)
