"""Many who want several units at once: as many as there are, each claim whole, and none above the limit."""

import random
from collections import Counter
from collections.abc import Callable

from django.conf import settings
from redis import Redis

from coupons.issuing import issue_claims
from coupons.models import Coupon, FailedClaim
from coupons.stock.codes import ReserveCode
from coupons.stock.store import StockStore
from events.models import Event
from tests.concurrency.test_rush_on_one_event import at_once
from tests.factories import make_users
from tests.sales import assert_sum

Sale = Callable[..., Event]


def test_fifty_threads_that_want_one_to_three_units_share_out_exactly_what_there_is(
    sale: Sale, store: StockStore
) -> None:
    event, users = sale(quantity=200, per_user_limit=3, burst=100), make_users(150)
    answers: list[tuple[int, int, ReserveCode]] = []

    def work(mine: list[int], seed: int) -> Callable[[], None]:
        chance = random.Random(seed)

        def claim() -> None:
            with Redis.from_url(settings.STOCK_REDIS_URL, decode_responses=True) as client:
                own = StockStore(client)
                for user in mine:
                    quantity = chance.randint(1, 3)
                    (one,) = own.reserve(event.id, epoch=1, claims=[(user, "", quantity)]).reservations
                    answers.append((user, quantity, one.code))

        return claim

    # Each user from two threads, so that some would come to more than three.
    at_once([work(users[i % 25 :: 25], i) for i in range(50)])
    taken: Counter[int] = Counter()
    for user, quantity, code in answers:
        if code is ReserveCode.ACCEPTED:
            taken[user] += quantity
    left = store.snapshot(event.id).stock
    assert sum(taken.values()) + left == 200
    assert max(taken.values()) <= 3
    assert left < 3 or not any(code is ReserveCode.SOLD_OUT for *_, code in answers)
    issue_claims(event.id, store, batch=7)
    assert_sum(store, event)
    assert Counter(Coupon.objects.values_list("user_id", flat=True)) == taken
    for coupon in Coupon.objects.filter(place=1):
        numbers = Coupon.objects.filter(user_id=coupon.user_id, sequence__range=(coupon.sequence, coupon.entry.last))
        assert numbers.count() == coupon.units
    assert not FailedClaim.objects.exists()
