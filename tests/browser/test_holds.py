"""A sale that holds what is claimed until it is confirmed, as people see it."""

from collections.abc import Callable

import pytest

from coupons import holds
from coupons.models import Coupon
from events.models import Event
from tests.browser.conftest import PHONE, Visit

pytestmark = pytest.mark.browser
Sale = Callable[..., Event]


def test_what_is_held_counts_down_and_becomes_a_coupon_or_is_given_back(visit: Visit, sale: Sale) -> None:
    event = sale(quantity=5, hold_seconds=300)
    pays, gives_back = visit(), visit(viewport=PHONE, locale="ko-KR")
    for one in (pays, gives_back):
        one.sign_in(f"/events/{event.slug}")
        one.stage("open")
        one.page.click("[data-claim] button")
        one.stage("held")
        one.page.wait_for_selector("[data-countdown=held]")
    gives_back.picture("held")
    first = Coupon.objects.order_by("sequence")[0]
    assert first.code not in pays.page.content()
    holds.confirm(event_id=event.pk, claim_id=str(first.claim_id))
    pays.stage("issued")
    assert pays.page.locator("#code").inner_text() == first.code
    gives_back.page.on("dialog", lambda dialog: dialog.accept())
    gives_back.page.click("[data-cancel]")
    gives_back.stage("rejected")
    assert list(Coupon.objects.values_list("code", flat=True)) == [first.code]
    gives_back.page.click("section:visible [data-more]")
    gives_back.stage("open")
