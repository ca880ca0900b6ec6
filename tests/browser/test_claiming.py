"""From the countdown to the coupon, as people do it."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from coupons.models import Coupon
from events.models import Event
from tests.browser.conftest import PHONE, Visit

pytestmark = pytest.mark.browser
Sale = Callable[..., Event]


def test_two_people_go_from_the_countdown_to_the_coupon(visit: Visit, sale: Sale) -> None:
    event = sale(quantity=5, opens_at=timezone.now() + timedelta(seconds=15))
    people = [visit(), visit(viewport=PHONE, locale="ko-KR")]
    for one in people:
        one.sign_in(f"/events/{event.slug}")
        one.stage("scheduled")
        one.page.wait_for_selector("[data-countdown=scheduled]")  # visible, once the server has told the time
    people[1].picture("countdown")
    for one in people:
        one.stage("open")
    for one in people:
        one.page.click("[data-claim] button")
    codes = []
    for one in people:
        one.stage("issued")
        codes.append(one.page.locator("#code").inner_text())
    assert sorted(codes) == sorted(Coupon.objects.values_list("code", flat=True))
    people[0].open("/coupons")
    assert codes[0] in people[0].page.inner_text("main")


def test_without_scripts_one_can_claim(visit: Visit, sale: Sale) -> None:
    event = sale(quantity=5)
    one = visit(java_script_enabled=False)
    one.sign_in(f"/events/{event.slug}")
    one.page.click("a.big:visible")
    one.page.click("main form button:visible")
    code = one.page.locator(".code")
    for _ in range(20):
        if code.count():
            break
        one.page.wait_for_timeout(500)  # without scripts, a person reloads
        one.page.reload()
    assert code.first.inner_text() == Coupon.objects.get().code


def test_who_may_have_several_takes_them_at_once_and_sees_every_code(visit: Visit, sale: Sale) -> None:
    event = sale(quantity=10, per_user_limit=4)
    one, other = visit(viewport=PHONE, locale="ko-KR"), visit()
    for visitor in (one, other):
        visitor.sign_in(f"/events/{event.slug}")
        visitor.stage("open")
    one.page.fill("[data-claim] [name=quantity]", "3")
    one.picture("several-before")
    one.page.click("[data-claim] button")
    other.page.fill("[data-claim] [name=quantity]", "5")
    other.page.click("[data-claim] button")
    assert other.page.locator("[data-claim] [name=quantity]:invalid").count() == 1, "four are the most"
    one.stage("issued")
    one.page.wait_for_selector("[data-codes] li:nth-child(2)")
    shown = [one.page.locator("#code").inner_text(), *one.page.locator("[data-codes] li").all_inner_texts()]
    assert sorted(shown) == sorted(Coupon.objects.values_list("code", flat=True))
    one.picture("several")
    one.page.click("[data-more]")
    one.stage("open")
    one.page.wait_for_selector("[data-claim] [name=quantity]", state="hidden")  # only one more may be had
    one.page.click("[data-claim] button")
    one.stage("issued")
    assert one.page.locator("[data-codes] li").count() == 0
    one.page.wait_for_selector("section:visible [data-more]", state="hidden")  # and then none
