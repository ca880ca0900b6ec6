"""A claim of several units by the pages, without their scripts."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client

from coupons import issuing
from coupons.models import Coupon
from coupons.stock.store import StockStore
from events.models import Event
from tests.api_kit import redis_round_trips
from tests.outages import no_redis
from tests.pages_kit import part_of
from tests.sales import assert_sum

Sale = Callable[..., Event]


def send(browser: Client, event: Event, quantity: str, key: str = "some key") -> int:
    """The form, with so many written into it; the status of the answer."""
    answer = browser.post(f"/events/{event.slug}/claim", {"key": key, "quantity": quantity})
    return int(answer.status_code)


def test_who_may_have_several_says_how_many_and_gets_all_of_them(
    sale: Sale, browser: Client, customer: User, store: StockStore
) -> None:
    event = sale(per_user_limit=4, quantity=10)
    form = browser.get(f"/events/{event.slug}/claim").content.decode()
    assert 'name="quantity"' in form
    assert 'max="4"' in form
    answer = browser.post(f"/events/{event.slug}/claim", {"key": "some key", "quantity": "3"})
    assert part_of(browser, event)["may_claim"] == 1, "of the four three are taken"
    assert 'name="quantity"' not in browser.get(f"/events/{event.slug}/claim").content.decode()
    issuing.issue_claims(event.pk, store)
    codes = list(Coupon.objects.filter(user=customer).values_list("code", flat=True))
    shown = browser.get(answer["Location"]).content.decode()
    assert len(codes) == 3
    assert all(code in shown for code in codes)
    assert_sum(store, event)


def test_the_form_asks_redis_once(sale: Sale, browser: Client) -> None:
    event = sale(per_user_limit=4)
    browser.get(f"/events/{event.slug}/claim")
    with redis_round_trips() as sent:
        browser.get(f"/events/{event.slug}/claim")
    assert len(sent) == 1


def test_where_one_each_is_allowed_nobody_is_asked_how_many(sale: Sale, browser: Client) -> None:
    assert 'name="quantity"' not in browser.get(f"/events/{sale().slug}/claim").content.decode()


def test_a_way_that_takes_one_at_a_time_asks_for_no_number(sale: Sale, browser: Client, customer: User) -> None:
    event = sale(per_user_limit=3, strategy=Event.Strategy.CONDITIONAL_UPDATE)
    assert part_of(browser, event)["may_claim"] == 1
    assert [send(browser, event, "2"), send(browser, event, "1")] == [400, 302]
    assert part_of(browser, event)["may_claim"] == 1
    assert Coupon.objects.filter(user=customer).count() == 1


@pytest.mark.parametrize("quantity", ["0", "-1", "5", "1.5", "", "some", "٣", "9" * 400])
def test_what_is_no_number_that_one_may_claim_is_refused_and_takes_nothing(
    sale: Sale, browser: Client, store: StockStore, quantity: str
) -> None:
    event = sale(per_user_limit=4)
    assert send(browser, event, quantity) == 400
    assert store.snapshot(event.pk).backlog == 0


def test_who_tries_again_tries_for_as_many(sale: Sale, browser: Client) -> None:
    event = sale(per_user_limit=4)
    with no_redis():
        page = browser.post(f"/events/{event.slug}/claim", {"key": "some key", "quantity": "3"})
    assert page.status_code == 503
    assert '<input type="hidden" name="quantity" value="3"' in page.content.decode()
