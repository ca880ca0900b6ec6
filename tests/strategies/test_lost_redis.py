"""The ways of Redis when it is away, comes up empty, or is another: refused at once, moved to the database, loaded."""

from collections.abc import Callable
from datetime import timedelta
from unittest.mock import patch

import pytest
from django.utils import timezone

from coupons import modes, services
from coupons.errors import AlreadyClaimed
from coupons.models import Coupon, FailedClaim
from coupons.reconciling import look, reconcile
from coupons.stock.store import StockStore
from coupons.stock.ways import bulk_ways
from coupons.strategies import STRATEGIES, Strategy
from events import services as sales
from events.catalogue import catalogue
from events.errors import SoldOut, Unavailable
from events.models import Event
from events.redis.breaker import Breaker
from tests.factories import make_users
from tests.outages import no_redis
from tests.sales import lose
from tests.strategies.kit import assert_exactly, claim, settle

Sale = Callable[..., Event]
Mode = Event.StockMode

of_redis = pytest.mark.parametrize(
    "strategy", [one for one in STRATEGIES.values() if one.needs_redis], ids=lambda one: one.name
)


@of_redis
def test_a_lost_redis_is_borne_for_as_long_as_was_asked_and_then_the_database_sells(
    sale: Sale, store: StockStore, strategy: Strategy
) -> None:
    event, users = sale(strategy=strategy.name, quantity=6), make_users(7)
    claim(event, users[0])
    settle(event)
    with no_redis():
        with patch.object(Breaker, "failing_for", return_value=9.9), pytest.raises(Unavailable):
            services.claim(event_id=event.pk, user_id=users[1])
        with patch.object(Breaker, "failing_for", return_value=10.0):
            assert claim(event, users[1]).claim.status == "issued"
        catalogue.refresh()
        assert claim(event, users[2]).claim.status == "issued"
        event.refresh_from_db()
        assert (event.stock_mode, event.epoch) == (Mode.DATABASE, 2)
    assert reconcile(event.pk, store) == []
    modes.sell_from_redis(event.pk, store)
    catalogue.refresh()
    for user in users[3:6]:
        assert claim(event, user).result == "accepted"
        settle(event)
    with pytest.raises(SoldOut):
        claim(event, users[6])
    settle(event)
    assert_exactly(event, 6)
    event.refresh_from_db()
    assert (event.stock_mode, event.epoch) == (Mode.REDIS, 3)


@of_redis
def test_a_redis_that_comes_up_empty_sells_nothing_until_it_is_loaded_anew(
    sale: Sale, store: StockStore, strategy: Strategy
) -> None:
    event, users = sale(strategy=strategy.name, quantity=3), make_users(4)
    claim(event, users[0])
    settle(event)
    lose(store)
    with pytest.raises(Unavailable):
        services.claim(event_id=event.pk, user_id=users[1])
    assert look(store).reconcile == [event.pk]
    (row,) = reconcile(event.pk, store)
    assert (row.kind, row.mended_at is not None) == ("missing_event", True)
    catalogue.refresh()
    for user in users[1:3]:
        claim(event, user)
    settle(event)
    with pytest.raises(SoldOut):
        claim(event, users[3])
    settle(event)
    assert list(Coupon.objects.order_by("sequence").values_list("user", flat=True)) == users[:3]
    assert_exactly(event, 3)
    for _ in range(2):
        assert reconcile(event.pk, store) == []


@of_redis
def test_a_sale_that_was_closed_has_its_keys_let_go(sale: Sale, store: StockStore, strategy: Strategy) -> None:
    event, user = sale(strategy=strategy.name), make_users(1)[0]
    claim(event, user)
    settle(event)
    sales.close(event_id=event.pk)
    assert reconcile(event.pk, store) == []
    kept = [key for key in map(str, store.client.scan_iter("*")) if int(store.client.ttl(key)) < 0]
    assert kept == []


@pytest.mark.parametrize("name", ["redis_set", "redis_counter"])
def test_of_a_redis_that_has_too_much_no_more_is_sold_and_nobody_left_in_it(
    sale: Sale, store: StockStore, name: str
) -> None:
    event, (owner, late) = sale(strategy=name, quantity=1), make_users(2)
    claim(event, owner)
    bulk_ways().remove(event.pk, [owner])  # as if Redis had lost its last moments
    store.adjust(event.pk, epoch=1, delta=1)
    with pytest.raises(SoldOut):
        claim(event, late)
    assert not bulk_ways().look(event.pk, late).holds
    assert bulk_ways().look(event.pk, late).holders == 0
    with pytest.raises(AlreadyClaimed):
        claim(event, owner)
    assert bulk_ways().look(event.pk, owner).holds
    assert_exactly(event, 1)


def test_what_was_queued_when_redis_was_lost_is_issued_or_its_owner_told_why_not(sale: Sale, store: StockStore) -> None:
    event, users = sale(strategy="list_queue", quantity=2), make_users(3)
    claim(event, users[0])
    assert modes.fall_back(event.pk, epoch=1)
    catalogue.refresh()
    claim(event, users[1])
    claim(event, users[2])  # the last unit: the database does not know of the queue
    Event.objects.update(fell_back_at=timezone.now() - timedelta(hours=1))
    assert look(store).drain == [event.pk]
    settle(event)
    assert_exactly(event, 2)
    assert FailedClaim.objects.values_list("user_id", "reason").get() == (users[0], "outage")
