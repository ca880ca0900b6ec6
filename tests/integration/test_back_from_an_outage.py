"""A sale that is back on Redis stays there, though a process's breaker is still open from the outage."""

from collections.abc import Callable
from pathlib import Path

import pytest

from coupons import modes, selectors, services
from coupons.stock.store import bulk_store, hot_store
from events.catalogue import catalogue
from events.errors import Refusal, Unavailable
from events.models import Event
from events.redis.breaker import State
from tests.factories import make_users
from tests.faults.parts import until
from tests.gate_kit import own_stock

Mode = Event.StockMode


@pytest.mark.parametrize("bears", [0, 1])
def test_a_breaker_that_is_open_from_before_gives_nothing_up(
    sale: Callable[..., Event], tmp_path: Path, bears: int
) -> None:
    users = make_users(4)
    with own_stock(tmp_path) as valkey:
        event = sale(quantity=100, redis_lost_after=bears)
        first = services.claim(event_id=event.id, user_id=users.pop()).claim
        valkey.stop()
        try:
            user = users.pop()
            until(lambda: _is_issued(event, user), "the sale goes on from the database")
            catalogue.refresh()
            breaker = hot_store().breaker(event.id)
            for _ in range(3):  # polls, which Redis could answer
                with pytest.raises(Refusal):
                    selectors.claim_of(event_id=event.id, user_id=users[0], claim_id=str(first.id))
        finally:
            valkey.cont()
        modes.sell_from_redis(event.id, bulk_store())
        catalogue.refresh()
        assert breaker.state() is not State.CLOSED, "else there is nothing to be seen"
        with pytest.raises(Unavailable):
            services.claim(event_id=event.id, user_id=users.pop())
    event.refresh_from_db()
    assert event.stock_mode == Mode.REDIS


def _is_issued(event: Event, user: int) -> bool:
    try:
        return services.claim(event_id=event.id, user_id=user).claim.status == "issued"
    except Unavailable:
        return False  # Redis is not lost yet
