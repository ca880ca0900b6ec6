"""The waiting room, as those who wait see it."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone

from coupons import services
from coupons.issuing import issue_claims
from coupons.stock.store import bulk_store
from events.models import Event
from events.waiting_room import service
from events.waiting_room.records import Visit as Queueing
from tests.browser.conftest import PHONE, Visit
from tests.browser.crowd import join_others

pytestmark = pytest.mark.browser
Sale = Callable[..., Event]


def test_one_waits_behind_fifty_others_and_gets_a_coupon(visit: Visit, sale: Sale) -> None:
    event = sale(quantity=100, waiting_room=True, admission_rate=10, max_active=100, pass_ttl=60, grace=5)
    one = visit(viewport=PHONE)
    one.sign_in(f"/events/{event.slug}")
    join_others(event, 50)  # no sooner: the line moves on while somebody signs in
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
    bulk_store().adjust(event.id, epoch=event.epoch, delta=-2)
    one.stage("sold_out")


@pytest.mark.parametrize("issued", [False, True], ids=["just now", "before"])
def test_who_has_claimed_elsewhere_is_shown_the_coupon_and_not_the_line(
    visit: Visit, sale: Sale, *, issued: bool
) -> None:
    event = sale(quantity=5, waiting_room=True)
    one = visit()
    one.sign_in(f"/events/{event.slug}")
    one.stage("open")
    user = get_user_model().objects.latest("pk")
    service.visit(event.id, user.pk, 1, "join")
    services.claim(event_id=event.id, user_id=user.pk)
    if issued:
        issue_claims(event.id, bulk_store())
    one.page.click("[data-join] button")
    one.stage("issued")


def test_the_line_forms_before_the_opening(visit: Visit, sale: Sale) -> None:
    event = sale(quantity=5, waiting_room=True, entry_order="shuffle", opens_at=timezone.now() + timedelta(seconds=12))
    one = visit(locale="ko-KR")
    one.sign_in(f"/events/{event.slug}")
    one.page.click("[data-join] button")
    one.stage("waiting")
    assert one.page.locator("[data-place=drawn]").is_visible()
    one.picture("drawn")
    one.stage("turn")


def test_the_place_moves_between_two_polls(visit: Visit, sale: Sale) -> None:
    event = sale(quantity=1000, waiting_room=True, admission_rate=2, max_active=1000)
    last = join_others(event, 120)
    one = visit()
    one.sign_in(f"/events/{event.slug}")
    polls: list[str] = []
    one.page.on("request", lambda request: polls.append(request.method) if request.url.endswith("/queue") else None)
    one.page.click("[data-join] button")
    one.stage("waiting")
    place = int(one.page.inner_text("[data-position]"))
    asked = len(polls)
    while int(one.page.inner_text("[data-position]")) > place - 5:
        assert len(polls) == asked, "told by the state that everyone gets, not by a poll"
        service.visits(event.id, [Queueing("ask", last, 1)])  # whoever asks moves the line on
        one.page.wait_for_timeout(200)
