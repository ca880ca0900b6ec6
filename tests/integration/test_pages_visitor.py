"""The visitor's own part of the page of a sale, which its script asks for."""

from collections.abc import Callable
from typing import Any

import jwt
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from events.models import Event
from tests.api_kit import redis_round_trips
from tests.factories import make_user
from tests.outages import no_redis
from tests.pages_kit import claim, part_of, press

pytestmark = pytest.mark.django_db(transaction=True)

Sale = Callable[..., Event]


def test_the_visitor_s_part_costs_reads_alone_and_none_for_a_guest(sale: Sale, client: Client, browser: Client) -> None:
    event = sale()
    for visitor, queries_of_it, asks_of_redis in ((client, 0, 0), (browser, 5, 1)):
        part_of(visitor, event)
        with CaptureQueriesContext(connection) as queries, redis_round_trips() as sent:
            part_of(visitor, event)
        assert len(queries) == queries_of_it
        assert all(query["sql"].startswith("SELECT") for query in queries)
        assert len(sent) == asks_of_redis


def test_the_visitor_s_part_is_their_own(sale: Sale, client: Client, browser: Client, customer: User) -> None:
    event = sale(per_user_limit=2)
    guest, member = part_of(client, event), part_of(browser, event)
    assert set(guest) == {"server_time", "name"}
    assert guest["name"] is None
    assert (member["name"], member["claim_url"], member["may_claim"]) == (customer.username, None, 2)
    assert member["admin_url"] is None
    assert member["key"] != part_of(browser, event)["key"]
    urls = [claim(browser, event, key)["Location"] for key in ("one", "two")]
    assert (part_of(browser, event)["claim_url"], part_of(browser, event)["may_claim"]) == (urls[1], 0)
    staff = Client()
    staff.force_login(make_user(is_staff=True))
    other = part_of(staff, event)
    assert (other["admin_url"], other["claim_url"], other["may_claim"]) == ("/admin/", None, 2)
    assert browser.get("/events/none/me").status_code == 404


def test_without_redis_the_visitor_s_part_says_nothing_of_claims(sale: Sale, browser: Client) -> None:
    event = sale()
    press(browser, event)
    with no_redis():
        told = part_of(browser, event)
    assert (told["claim_url"], told["may_claim"]) == (None, 1)


def test_the_page_gets_a_token_of_its_own_for_a_short_while(sale: Sale, browser: Client, customer: User) -> None:
    event = sale()
    told = part_of(browser, event)
    assert told["token_ms"] == 5 * 60 * 1000
    claims = jwt.decode(told["token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 5 * 60
    assert claims["lane"] == 1
    bearer = {"Authorization": f"Bearer {told['token']}"}
    answer = Client().post(f"/api/v1/events/{event.pk}/claims", headers=bearer, content_type="application/json")
    assert answer.status_code == 202
    assert part_of(browser, event)["claim_id"] == answer.json()["id"]


def test_where_tokens_are_issued_elsewhere_the_page_goes_by_its_forms(
    sale: Sale, browser: Client, settings: Any
) -> None:
    settings.SIMPLE_JWT = {**settings.SIMPLE_JWT, "SIGNING_KEY": None}
    event = sale()
    told = part_of(browser, event)
    assert told["token"] is None
    assert claim(browser, event, told["key"]).status_code == 302
