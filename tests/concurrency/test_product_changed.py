"""An operator changes the product while its units are held: it never falls below them, and both sides agree."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from unittest.mock import patch

import pytest
from django.db import connection
from redis.exceptions import TimeoutError as NoAnswer

from coupons import holds, keeper, reconciling, services
from coupons.issuing import issue_claims
from coupons.rush import evidence
from coupons.rush.checker import check
from coupons.stock.store import StockStore
from events import services as sales
from events.errors import InvalidChange, Refusal, Unavailable
from events.models import Event
from tests.concurrency.test_holds import BUSY, assert_accounted, hold_all
from tests.concurrency.test_negative_controls import rebuilt, without_constraint
from tests.concurrency.test_rush_on_one_event import at_once
from tests.factories import make_users
from tests.sales import change
from tests.stock_kit import UnguardedStore, without_guard

Sale = Callable[..., Event]

OF_THE_SERVICE = "if quantity < max(1, event.issued):"
OF_THE_SCRIPT = "if stock < 0 then return {INSUFFICIENT, tonumber(state[2])} end\n"


def test_a_product_is_resized_and_paused_while_units_are_held_and_come_back(sale: Sale, store: StockStore) -> None:
    event, users = sale(hold_seconds=60, quantity=10, rate_per_second=1000, burst=1000), make_users(12)
    done = threading.Event()
    changes: Counter[str] = Counter()

    def customer(user: int) -> Callable[[], None]:
        chance = random.Random(user)

        def run() -> None:
            name = ""
            while not done.wait(0.01):
                with suppress(Refusal, BUSY):
                    name = name or str(services.claim(event_id=event.id, user_id=user).claim.id)
                    if chance.random() < 0.9:
                        holds.cancel(event_id=event.id, claim_id=name)
                        name = ""
                    else:
                        holds.confirm(event_id=event.id, claim_id=name)
                        return
                connection.close()  # there are fewer than customers

        return run

    def worker() -> None:
        while not done.wait(0.01):
            with suppress(BUSY):
                issue_claims(event.id, store)
                holds.release_due(event.id, store)

    def operator() -> None:
        chance = random.Random(1)
        for _ in range(50):
            for what, act in {
                "resized": lambda: change(event.id, quantity=chance.randint(1, 14)),
                "paused": lambda: sales.pause(event_id=event.id),
                "resumed": lambda: sales.resume(event_id=event.id),
            }.items():
                try:
                    act()
                    changes[what] += 1
                except InvalidChange:
                    changes["refused"] += 1
                except BUSY:
                    changes["busy"] += 1
        done.set()

    at_once([worker, operator, *(customer(user) for user in users)])
    assert min(changes[what] for what in ("resized", "refused", "paused", "resumed")) > 0, changes
    issue_claims(event.id, store)
    holds.release_due(event.id, store)
    assert_accounted(event, store)


def test_a_change_whose_answer_is_lost_is_not_made_twice(sale: Sale, store: StockStore) -> None:
    event = sale(hold_seconds=60, quantity=10)
    hold_all(event, make_users(2), store)
    adjust = StockStore.adjust

    def answer_lost(*args: Any, **options: Any) -> None:
        adjust(*args, **options)
        raise NoAnswer

    with patch.object(StockStore, "adjust", answer_lost), pytest.raises(Unavailable):
        change(event.id, quantity=15)
    with pytest.raises(Unavailable):
        change(event.id, quantity=15)  # the stock is on its way
    reconciling.reconcile(event.id, store)
    assert_accounted(event, store)
    change(event.id, quantity=15)
    assert_accounted(event, store)
    assert (event.quantity, event.held, store.snapshot(event.id).stock) == (15, 2, 13)


# P1, and its controls -------------------------------------------------------------------------------------------------


def keeps_p1(event: Event, store: StockStore) -> bool:
    """An operator wants one unit where four are held, and all four are paid."""
    before = evidence.before(event.id)
    names = hold_all(event, make_users(4), store)
    with suppress(InvalidChange):
        change(event.id, quantity=1)
    for name in names:
        holds.confirm(event_id=event.id, claim_id=name)
    verdicts = {one.promise: one.kept for one in check([], evidence.read(event.id, before=before))}
    return verdicts["P1"]


def test_p1_a_product_does_not_shrink_below_what_is_held(sale: Sale, store: StockStore) -> None:
    assert keeps_p1(sale(hold_seconds=60, quantity=4), store)


def forgetful() -> Callable[..., Event]:
    """A change that looks at what is issued, and forgets what is held."""
    text = OF_THE_SERVICE.replace("event.issued", "event.issued - event.held")
    change_of_issued: Callable[..., Event] = rebuilt(sales.change, OF_THE_SERVICE, text)
    return change_of_issued


def test_p1_holds_by_the_stock_where_the_service_forgets_what_is_held(sale: Sale, store: StockStore) -> None:
    with patch.object(sales, "change", forgetful()):
        assert keeps_p1(sale(hold_seconds=60, quantity=4), store)


def test_p1_breaks_without_its_guards(sale: Sale, store: StockStore) -> None:
    careless = UnguardedStore(store.client, "adjust", without_guard("adjust", (OF_THE_SCRIPT, "")))
    with (
        without_constraint("events_event", "event_issued_within_quantity"),
        patch.object(sales, "change", forgetful()),
        patch.object(keeper, "bulk_store", return_value=careless),
    ):
        assert not keeps_p1(sale(hold_seconds=60, quantity=4), store)
