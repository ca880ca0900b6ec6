"""Events: what the database refuses whoever asks, and what operators do to a sale."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, connection, transaction
from django.utils import timezone

from coupons import issuing, reconciling
from coupons.loading import window_of
from coupons.models import Coupon, FailedClaim
from coupons.stock.codes import ReserveCode
from coupons.stock.store import StockStore
from events import services
from events.errors import EventNotFound, InvalidChange, Unavailable
from events.models import Event
from tests.factories import make_event, make_user
from tests.outages import no_redis

Sale = Callable[..., Event]
Status = Event.Status


# The database ---------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("constraint", "change"),
    [
        ("event_opens_before_it_closes", "closes_at = opens_at"),
        ("event_opens_before_it_closes", "closes_at = opens_at - interval '1 second'"),
        ("event_issued_within_quantity", "issued = quantity + 1"),
        ("issued", "issued = -1"),
        ("event_quantity_positive", "quantity = 0"),
        ("event_per_user_limit_positive", "per_user_limit = 0"),
        ("event_rate_positive", "rate_per_second = 0"),
        ("event_rate_positive", "burst = 0"),
        ("event_status_known", "status = 'open', epoch = 1"),
        ("event_live_has_epoch", "status = 'published'"),
        ("event_live_has_epoch", "status = 'paused'"),
        ("slug", "slug = 'taken'"),
    ],
)
def test_the_database_refuses_an_event_that_cannot_be(constraint: str, change: str) -> None:
    make_event(slug="taken")
    event = make_event()
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE events_event SET {change} WHERE id = %s", [event.id])  # noqa: S608


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("coupon_once_a_user", {"sequence": 2, "code": "B"}),
        ("coupon_once_a_claim", {"ordinal": 2, "code": "B"}),
        ("code", {"ordinal": 2, "sequence": 2}),
        ("coupon_ordinal_positive", {"ordinal": 0, "sequence": 2, "code": "B"}),
    ],
)
def test_the_database_refuses_a_coupon_too_many(constraint: str, changes: dict[str, Any]) -> None:
    now = timezone.now()
    fields = {
        "event": make_event(),
        "user": make_user(),
        "ordinal": 1,
        "code": "A",
        "epoch": 1,
        "sequence": 1,
        "claimed_at": now,
        "issued_at": now,
    }
    Coupon.objects.create(**fields)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Coupon.objects.create(**{**fields, **changes})
    assert Coupon.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("failed_claim_once_a_claim", {"sequence": 1}),
        ("failed_claim_status_known", {"status": "lost"}),
        ("failed_claim_retrying_has_time", {"status": "retrying"}),
    ],
)
def test_the_database_refuses_a_failed_claim_that_cannot_be(constraint: str, changes: dict[str, Any]) -> None:
    fields = {
        "event": make_event(),
        "user_id": 1,
        "ordinal": 1,
        "epoch": 1,
        "claimed_at": timezone.now(),
        "status": "rejected",
        "reason": "error",
    }
    FailedClaim.objects.create(**fields, sequence=1)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        FailedClaim.objects.create(**{**fields, "sequence": 2, **changes})


@pytest.mark.django_db
def test_a_quantity_that_no_column_holds_is_refused() -> None:
    with pytest.raises(DataError), transaction.atomic():
        make_event(quantity=2**31)


@pytest.mark.django_db
def test_a_form_says_before_the_database_what_is_wrong() -> None:
    event = Event(opens_at=timezone.now(), quantity=0)
    event.closes_at = event.opens_at
    with pytest.raises(ValidationError) as refused:
        event.clean()
    assert "closes_at" in refused.value.message_dict
    event.closes_at += timedelta(hours=1)
    with pytest.raises(ValidationError) as refused:
        event.clean()
    assert "quantity" in refused.value.message_dict


# The way of a sale ----------------------------------------------------------------------------------------------------


def answer_to(event: Event, store: StockStore, user_id: int = 1) -> ReserveCode:
    """What the stock, asked at once and without the catalogue, says to a claim."""
    event.refresh_from_db()
    return store.reserve(event.id, epoch=event.epoch, claims=[(user_id, "")]).reservations[0].code


def test_publishing_loads_the_stock(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=5, per_user_limit=2, rate_per_second=3, burst=4)
    event.refresh_from_db()
    assert (event.status, event.epoch) == (Status.PUBLISHED, 1)
    snapshot = store.snapshot(event.id)
    assert (snapshot.epoch, snapshot.stock, snapshot.status) == (1, 5, "published")
    assert answer_to(event, store) is ReserveCode.ACCEPTED


def test_a_draft_is_not_sold(transactional_db: None, store: StockStore) -> None:
    assert answer_to(make_event(), store) is ReserveCode.NOT_LOADED


def test_a_sale_whose_end_has_passed_is_not_published(transactional_db: None, store: StockStore) -> None:
    now = timezone.now()
    event = make_event(opens_at=now - timedelta(hours=2), closes_at=now - timedelta(seconds=1))
    with pytest.raises(InvalidChange, match="closing time has passed"):
        services.publish(event_id=event.id)
    event.refresh_from_db()
    assert (event.status, event.epoch) == (Status.DRAFT, 0)
    assert not store.snapshot(event.id).loaded


def test_a_pause_a_resumption_and_a_close_take_effect_at_once(sale: Sale, store: StockStore) -> None:
    event = sale()
    services.pause(event_id=event.id)
    assert answer_to(event, store, 1) is ReserveCode.PAUSED
    services.resume(event_id=event.id)
    assert answer_to(event, store, 1) is ReserveCode.ACCEPTED
    services.close(event_id=event.id)
    assert answer_to(event, store, 2) is ReserveCode.CLOSED
    assert event.status == Status.CLOSED


def test_what_was_claimed_before_a_pause_or_a_close_is_issued(sale: Sale, store: StockStore) -> None:
    event = sale()
    paused, closed = make_user(), make_user()
    assert answer_to(event, store, paused.id) is ReserveCode.ACCEPTED
    services.pause(event_id=event.id)
    assert issuing.issue_claims(event.id, store) == 1
    services.resume(event_id=event.id)
    assert answer_to(event, store, closed.id) is ReserveCode.ACCEPTED
    services.close(event_id=event.id)
    assert issuing.issue_claims(event.id, store) == 1


STEPS = {
    "publish": services.publish,
    "pause": services.pause,
    "resume": services.resume,
    "close": services.close,
}
ALLOWED = {
    Status.DRAFT: {"publish"},
    Status.PUBLISHED: {"pause", "close"},
    Status.PAUSED: {"resume", "close"},
    Status.CLOSED: set(),
}
WAY_TO = {
    Status.DRAFT: (),
    Status.PUBLISHED: ("publish",),
    Status.PAUSED: ("publish", "pause"),
    Status.CLOSED: ("publish", "close"),
}


@pytest.mark.parametrize(
    ("status", "step"), [(status, step) for status in Status for step in STEPS if step not in ALLOWED[status]]
)
def test_a_step_that_the_way_does_not_have_is_refused_and_changes_nothing(
    transactional_db: None, store: StockStore, status: Event.Status, step: str
) -> None:
    event = make_event()
    for earlier in WAY_TO[status]:
        STEPS[earlier](event_id=event.id)
    before, stock = Event.objects.values().get(pk=event.id), store.snapshot(event.id)
    with pytest.raises(InvalidChange, match="final" if status is Status.CLOSED else "The sale is"):
        STEPS[step](event_id=event.id)
    assert Event.objects.values().get(pk=event.id) == before
    after = store.snapshot(event.id)
    assert (after.epoch, after.stock, after.status) == (stock.epoch, stock.stock, stock.status)


@pytest.mark.parametrize("step", STEPS)
def test_an_event_that_does_not_exist_is_not_found(transactional_db: None, step: str) -> None:
    with pytest.raises(EventNotFound):
        STEPS[step](event_id=404)


# Changes --------------------------------------------------------------------------------------------------------------


def changed(event: Event, **changes: Any) -> Event:
    event.refresh_from_db()
    terms = ("quantity", "opens_at", "closes_at", "per_user_limit", "rate_per_second", "burst")
    return services.change(event_id=event.id, **{**{term: getattr(event, term) for term in terms}, **changes})


def test_a_change_of_quantity_takes_effect_in_both(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=5)
    answer_to(event, store, 1)
    for quantity in (8, 2, 1):
        changed(event, quantity=quantity)
        event.refresh_from_db()
        assert (event.quantity, store.snapshot(event.id).stock) == (quantity, quantity - 1)
    assert answer_to(event, store, 2) is ReserveCode.SOLD_OUT


def test_a_quantity_below_what_is_claimed_is_refused_with_the_number(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=5)
    users = [make_user().id for _ in range(3)]
    for user_id in users[:2]:
        answer_to(event, store, user_id)
    issuing.issue_claims(event.id, store)
    answer_to(event, store, users[2])
    with pytest.raises(InvalidChange, match=r"below 3: so many are claimed already \(2 of them issued\)"):
        changed(event, quantity=2, burst=77)
    event.refresh_from_db()
    assert (event.quantity, event.burst) == (5, 20)
    assert store.snapshot(event.id).stock == 2
    assert changed(event, quantity=3).quantity == 3


def test_a_quantity_below_what_is_issued_is_refused_whatever_redis_says(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=5)
    Event.objects.filter(pk=event.id).update(issued=4)
    with pytest.raises(InvalidChange, match="below 4"):
        changed(event, quantity=3)


def test_a_change_of_the_window_takes_effect_at_once(sale: Sale, store: StockStore) -> None:
    event = sale()
    now = timezone.now()
    changed(event, opens_at=now + timedelta(minutes=5))
    assert answer_to(event, store) is ReserveCode.NOT_OPEN
    changed(event, opens_at=now - timedelta(minutes=5), closes_at=now - timedelta(minutes=1))
    assert answer_to(event, store) is ReserveCode.CLOSED
    changed(event, closes_at=now + timedelta(minutes=5))
    assert answer_to(event, store) is ReserveCode.ACCEPTED


def test_a_change_of_the_limits_takes_effect_at_once(sale: Sale, store: StockStore) -> None:
    event = sale()
    assert answer_to(event, store) is ReserveCode.ACCEPTED
    assert answer_to(event, store) is ReserveCode.ALREADY_CLAIMED
    changed(event, per_user_limit=2)
    assert answer_to(event, store) is ReserveCode.ACCEPTED
    changed(event, rate_per_second=1, burst=1)
    assert answer_to(event, store) is ReserveCode.RATE_LIMITED


def test_a_sale_that_would_close_before_it_opens_is_refused(sale: Sale) -> None:
    event = sale()
    with pytest.raises(InvalidChange, match="close after it opens"):
        changed(event, closes_at=event.opens_at)


def test_a_closed_sale_cannot_be_changed(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=5)
    services.close(event_id=event.id)
    with pytest.raises(InvalidChange, match="final"):
        changed(event, quantity=6)
    assert store.snapshot(event.id).stock == 5


def test_a_draft_is_changed_without_any_stock(transactional_db: None, store: StockStore) -> None:
    event = make_event(quantity=5)
    with no_redis():
        changed(event, quantity=6)
    event.refresh_from_db()
    assert event.quantity == 6
    assert not store.snapshot(event.id).loaded


# Without Redis --------------------------------------------------------------------------------------------------------


def live(event: Event) -> dict[str, Any]:
    return dict(Event.objects.values().get(pk=event.id))


@pytest.mark.parametrize("step", ["publish", "pause", "resume", "close", "change"])
def test_without_redis_a_step_is_unavailable_and_the_database_unchanged(
    transactional_db: None, store: StockStore, step: str
) -> None:
    event = make_event()
    for earlier in {"publish": (), "resume": ("publish", "pause")}.get(step, ("publish",)):
        STEPS[earlier](event_id=event.id)
    before = live(event)
    with no_redis(), pytest.raises(Unavailable, match="Redis cannot be reached"):
        changed(event, quantity=99) if step == "change" else STEPS[step](event_id=event.id)
    assert live(event) == before


def test_a_stock_that_redis_lost_cannot_be_resized_but_the_sale_can_be_closed(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=5)
    store.unload(event.id)
    with pytest.raises(Unavailable, match="not in Redis"):
        changed(event, quantity=6)
    assert live(event)["quantity"] == 5
    services.close(event_id=event.id)
    assert live(event)["status"] == "closed"


def test_a_commit_that_fails_after_the_stock_was_changed_is_mended_by_reconciling(
    sale: Sale, store: StockStore
) -> None:
    event = sale(quantity=5)
    with transaction.atomic():
        changed(event, quantity=9)
        services.pause(event_id=event.id)
        transaction.set_rollback(True)
    assert (store.snapshot(event.id).stock, store.snapshot(event.id).status) == (9, "paused")
    for _ in range(2):
        reconciling.reconcile(event.id, store)
    assert (store.snapshot(event.id).stock, store.snapshot(event.id).status) == (5, "published")


def test_times_are_kept_to_the_millisecond_in_redis(sale: Sale, store: StockStore) -> None:
    event = sale(opens_at=datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=timezone.get_default_timezone()))
    assert window_of(event).opens_ms % 1000 == 123
