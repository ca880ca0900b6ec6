"""The waiting room, as those who wait see it."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from events import services
from events.models import Event
from events.waiting_room.records import Visit as Queueing
from events.waiting_room.service import visits
from events.waiting_room.store import bulk_room_store
from tests.browser.conftest import PHONE, Visit
from tests.factories import make_users

pytestmark = pytest.mark.browser
Sale = Callable[..., Event]


def join_others(event: Event, number: int) -> None:
    """So many stand in line already."""
    for user in make_users(number):
        visits(event.id, [Queueing("join", user, 1)])


def test_one_waits_behind_fifty_others_and_gets_a_coupon(visit: Visit, sale: Sale) -> None:
    event = sale(quantity=100, waiting_room=True, admission_rate=20, max_active=100, pass_ttl=60, grace=5)
    join_others(event, 50)
    one = visit(viewport=PHONE)
    one.sign_in(f"/events/{event.slug}")
    one.page.click("[data-join] button")
    one.stage("waiting")
    assert int(one.page.inner_text("[data-ahead]")) <= 50
    one.picture("waiting")
    one.stage("turn")
    one.picture("turn")
    one.page.click("[data-claim-now]")
    one.stage("issued")


def test_sold_out_before_the_turn(visit: Visit, sale: Sale) -> None:
    event = sale(quantity=2, waiting_room=True, admission_rate=1, max_active=1, pass_ttl=600)
    join_others(event, 3)
    one = visit()
    one.sign_in(f"/events/{event.slug}")
    one.page.click("[data-join] button")
    one.stage("waiting")
    services.change(
        event_id=event.id,
        quantity=2,
        opens_at=event.opens_at,
        closes_at=event.closes_at,
        per_user_limit=1,
        rate_per_second=10,
        burst=20,
    )
    bulk_room_store().client.hset(f"sc:{{{event.id}}}:state", "stock", 0)
    one.stage("sold_out")


def test_the_line_forms_before_the_opening(visit: Visit, sale: Sale) -> None:
    event = sale(quantity=5, waiting_room=True, entry_order="shuffle", opens_at=timezone.now() + timedelta(seconds=12))
    one = visit(locale="ko-KR")
    one.sign_in(f"/events/{event.slug}")
    one.page.click("[data-join] button")
    one.stage("waiting")
    assert one.page.locator("[data-place=drawn]").is_visible()
    one.picture("drawn")
    one.stage("turn")
