"""Polls in the first minute after a claim was issued: answered from Redis, and as the database would have answered."""

import re
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test import Client

from coupons import issuing
from coupons.models import Coupon, FailedClaim
from coupons.reconciling import reconcile
from coupons.stock import keys
from coupons.stock import store as stores
from coupons.stock.records import IssuedCoupon
from coupons.stock.store import StockStore
from events import services as sales
from events.catalogue import catalogue
from events.models import Event
from tests.api_kit import Caller, redis_round_trips
from tests.factories import make_user, make_users
from tests.outages import no_database
from tests.sales import Crash, lose, reserve

Sale = Callable[..., Event]


@pytest.fixture
def user(transactional_db: None) -> User:
    return make_user()


@pytest.fixture
def caller(user: User) -> Caller:
    return Caller(user)


def noted(store: StockStore) -> dict[str, str]:
    """All issued coupons that Redis has."""
    found: dict[str, str] = {}
    for key in store.client.scan_iter("*:issued:*"):
        part: Any = store.client.hgetall(key)
        found |= part
    return found


def forget(store: StockStore) -> None:
    """From here on the database has to be asked."""
    for key in store.client.scan_iter("*:issued:*"):
        store.client.delete(key)


def without_token(page: Any) -> str:
    """A page without what differs each time: the token of the form that signs out."""
    text, number = re.subn(r'(csrfmiddlewaretoken" value)="[^"]*"', r"\1", page.content.decode())
    assert number == 1
    return text


def test_a_poll_costs_no_query_and_one_round_trip_and_is_the_answer_of_the_database(
    sale: Sale, caller: Caller, store: StockStore, django_assert_num_queries: Any
) -> None:
    event = sale(title="Frühling <b>&</b> 봄", benefit="₩5,000 off")
    place = caller.claim(event.id, key="k")["Location"]
    issuing.issue_claims(event.id, store)
    with django_assert_num_queries(0), redis_round_trips() as asked:
        told = caller.get(place)
    assert len(asked) == 1, asked
    assert told.json()["coupon"]["code"] == Coupon.objects.get().code
    forget(store)
    from_database = caller.get(place)
    assert (told.status_code, told.content) == (from_database.status_code, from_database.content)
    assert {**told.headers, "X-Request-ID": ""} == {**from_database.headers, "X-Request-ID": ""}


def test_the_page_of_the_claim_is_that_of_the_database(sale: Sale, user: User, store: StockStore) -> None:
    event, browser = sale(title="Frühling <b>&</b> 봄", benefit="₩5,000 off"), Client()
    browser.force_login(user)
    place = browser.post(f"/events/{event.slug}/claim", {"key": "k"})["Location"]
    issuing.issue_claims(event.id, store)
    told = browser.get(place)
    assert Coupon.objects.get().code in told.content.decode()
    forget(store)
    assert without_token(told) == without_token(browser.get(place))


def test_a_poll_is_answered_while_the_database_is_away(sale: Sale, caller: Caller, store: StockStore) -> None:
    event = sale()
    place = caller.claim(event.id)["Location"]
    issuing.issue_claims(event.id, store)
    with no_database():
        assert caller.get(place).json()["status"] == "issued"
    forget(store)
    with no_database():
        assert caller.get(place).status_code == 503, "the database would have been asked"


def test_a_user_with_several_claims_is_told_of_each(sale: Sale, caller: Caller, store: StockStore) -> None:
    event = sale(per_user_limit=2)
    places = [caller.claim(event.id, key=key)["Location"] for key in "ab"]
    issuing.issue_claims(event.id, store)
    with no_database():
        codes = [caller.get(place).json()["coupon"]["code"] for place in places]
    assert codes == list(Coupon.objects.order_by("sequence").values_list("code", flat=True))


def test_a_coupon_of_the_minute_before_is_known_and_an_older_one_is_asked_of_the_database(
    sale: Sale, caller: Caller, store: StockStore, django_assert_num_queries: Any
) -> None:
    event = sale()
    place = caller.claim(event.id)["Location"]
    with patch.object(stores, "_minute") as minute:
        minute.return_value = 29_920_570
        issuing.issue_claims(event.id, store)
        for later, queries in ((0, 0), (1, 0), (2, 1)):
            minute.return_value = 29_920_570 + later
            with django_assert_num_queries(queries):
                assert caller.get(place).json()["status"] == "issued"


def test_nothing_is_told_before_the_commit(sale: Sale, caller: Caller, store: StockStore) -> None:
    event = sale()
    place = caller.claim(event.id)["Location"]
    with patch.object(connection, "commit", side_effect=OperationalError), pytest.raises(OperationalError):
        issuing.issue_claims(event.id, store)
    assert noted(store) == {}
    assert caller.get(place).json()["status"] == "pending"


def test_a_coupon_that_a_crashed_run_did_not_settle_is_asked_of_the_database(
    sale: Sale, caller: Caller, store: StockStore
) -> None:
    event = sale()
    place = caller.claim(event.id)["Location"]
    with patch.object(issuing, "_settle", side_effect=Crash), pytest.raises(Crash):
        issuing.issue_claims(event.id, store)
    issuing.issue_claims(event.id, store)
    assert (noted(store), store.snapshot(event.id).backlog) == ({}, 0)
    assert caller.get(place).json()["coupon"]["code"] == Coupon.objects.get().code


def test_only_what_was_issued_is_noted_each_with_its_code(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=3), make_users(3)
    bad = 2**31 - 1  # no user has this id
    reserve(store, event, users[0], bad, users[1])
    issuing.issue_claims(event.id, store)
    assert FailedClaim.objects.get().user_id == bad
    assert noted(store) == {
        f"1-{one.sequence}:{one.user_id}": str(IssuedCoupon(one.code, one.issued_at)) for one in Coupon.objects.all()
    }
    assert len(noted(store)) == 2


def test_a_rejected_claim_is_never_told_issued(sale: Sale, store: StockStore) -> None:
    event, (first, second) = sale(quantity=2), make_users(2)
    reserve(store, event, first, second)
    Event.objects.filter(pk=event.id).update(quantity=1)  # Redis has more than the database
    issuing.issue_claims(event.id, store)
    answers = [
        Caller(User(pk=user)).get(f"/api/v1/events/{event.id}/claims/{event.id}-1-{place}").json()
        for place, user in ((1, first), (2, second))
    ]
    assert [one["status"] for one in answers] == ["issued", "rejected"]


def test_whoever_is_taken_for_a_holder_of_the_claim_does_not_get_its_code(sale: Sale, store: StockStore) -> None:
    event, owner, other = sale(), make_user(), make_user()
    place = Caller(owner).claim(event.id)["Location"]
    issuing.issue_claims(event.id, store)
    held = store.client.hget(keys.claimants(event.id), str(owner.pk))
    store.client.hset(keys.claimants(event.id), str(other.pk), str(held))
    answer = Caller(other).get(place)
    assert Coupon.objects.get().code not in answer.content.decode()
    assert answer.json().get("status") != "issued"


def test_after_redis_was_lost_the_database_is_asked(sale: Sale, caller: Caller, store: StockStore) -> None:
    event = sale()
    place = caller.claim(event.id)["Location"]
    issuing.issue_claims(event.id, store)
    lose(store)
    assert caller.get(place).json()["status"] == "issued"


def test_after_a_load_the_database_is_asked(sale: Sale, caller: Caller, store: StockStore) -> None:
    event = sale()
    place = caller.claim(event.id)["Location"]
    issuing.issue_claims(event.id, store)
    store.unload(event.id)
    reconcile(event.id, store)
    assert noted(store) == {}, "a load is there because one of the two had lost something"
    assert caller.get(place).json()["status"] == "issued"


def test_a_title_that_an_operator_changes_is_the_new_one(sale: Sale, caller: Caller, store: StockStore) -> None:
    event = sale(title="Sprng")
    place = caller.claim(event.id)["Location"]
    issuing.issue_claims(event.id, store)
    Event.objects.filter(pk=event.id).update(title="Spring")
    catalogue.refresh()
    assert caller.get(place).json()["coupon"]["event_title"] == "Spring"


def test_a_sale_that_has_ended_still_tells_of_its_last_coupons(sale: Sale, caller: Caller, store: StockStore) -> None:
    event = sale()
    place = caller.claim(event.id)["Location"]
    issuing.issue_claims(event.id, store)
    sales.close(event_id=event.id)
    catalogue.refresh()
    with no_database():
        assert caller.get(place).json()["status"] == "issued"
