"""What the checker of a waiting room hears of losses: when the room was put back, and when there was no Redis."""

from collections.abc import Callable
from datetime import timedelta

from django.utils import timezone

from coupons import drift, modes
from coupons.models import Reconciliation
from coupons.reconciling import reconcile
from coupons.rush import evidence
from coupons.rush.client import clock
from coupons.rush.history import BILLION
from coupons.rush.stays import FOREVER
from coupons.stock.store import StockStore
from events.models import Event

Sale = Callable[..., Event]


def test_a_room_that_was_never_lost_has_one_period(sale: Sale) -> None:
    event = sale(waiting_room=True, admission_rate=7, max_active=8, pass_ttl=9, quantity=10)
    before = evidence.before(event.id)
    drift.suspect(event.id, Reconciliation.Kind.STOCK, expected=1, found=2)
    room = evidence.room(event.id, before=before)
    assert (room.rate, room.max_active, room.pass_ttl, room.quantity) == (7, 8, 9, 10)
    assert [(one.since_ns, one.until_ns, one.by_rank) for one in room.periods] == [(-FOREVER, FOREVER, False)]


def test_each_loss_parts_the_time_before_from_the_time_after(sale: Sale, store: StockStore) -> None:
    event = sale(waiting_room=True)
    store.unload(event.id)
    reconcile(event.id, store)
    before = evidence.before(event.id)  # the first was before the rush
    store.unload(event.id)
    asked = clock()
    (row,) = reconcile(event.id, store)
    first, second = evidence.room(event.id, before=before).periods
    assert (first.by_rank, second.by_rank) == (False, False)
    assert (first.since_ns, second.until_ns) == (-FOREVER, FOREVER)
    assert first.until_ns < asked < clock() < second.since_ns < clock() + 2 * BILLION
    assert row.mended_at is not None


def test_the_time_without_redis_is_told_apart(sale: Sale, store: StockStore) -> None:
    event = sale(waiting_room=True)
    before = evidence.before(event.id)
    before = evidence.Before(before.at - timedelta(minutes=2), before.epoch, before.claims)
    modes.fall_back(event.id, epoch=event.epoch)
    event.reconciliations.update(seen_at=timezone.now() - timedelta(minutes=1))
    assert [one.by_rank for one in evidence.room(event.id, before=before).periods] == [False, True]
    assert evidence.outages(event.id) == 0
    modes.sell_from_redis(event.id, store)
    found = evidence.room(event.id, before=before).periods
    assert [one.by_rank for one in found] == [False, True, False]
    assert 50 * BILLION < found[1].until_ns - found[1].since_ns < 62 * BILLION
    assert evidence.outages(event.id) == 1
