"""Accessibility by axe-core, at phone and desktop width, light and dark, in both languages."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Page

from events.models import Event
from tests.browser.conftest import DESK, PHONE, Visit
from tests.browser.crowd import join_others

pytestmark = pytest.mark.browser
Sale = Callable[..., Event]

LOOKS = [
    pytest.param({"viewport": PHONE, "locale": "ko-KR", "color_scheme": "dark"}, id="phone, dark, Korean"),
    pytest.param({"viewport": DESK, "locale": "en-US", "color_scheme": "light"}, id="desk, light, English"),
]


def assert_accessible(page: Page) -> None:
    """No violation of WCAG 2.2 AA that axe can see, and nothing wider than the window."""
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})
    assert found.response["violations"] == [], found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_accessible_to_everybody(visit: Visit, sale: Sale, look: dict[str, object]) -> None:
    soon = sale(quantity=5, opens_at=timezone.now() + timedelta(hours=1))
    now = sale(quantity=5)
    room = sale(quantity=5, waiting_room=True, admission_rate=1, max_active=1, pass_ttl=600)
    join_others(room, 2)
    one = visit(**look)
    one.open("/accounts/login")
    assert_accessible(one.page)
    one.sign_in("/")
    assert_accessible(one.page)
    one.open(f"/events/{soon.slug}")
    one.page.wait_for_selector("[data-countdown=scheduled]:visible")
    assert_accessible(one.page)
    one.open(f"/events/{room.slug}")
    one.page.click("[data-join] button")
    one.stage("waiting")
    assert_accessible(one.page)
    one.open(f"/events/{now.slug}")
    one.page.click("[data-claim] button")
    one.stage("issued")
    one.page.wait_for_selector("[data-qr]:visible")
    assert_accessible(one.page)
    for path in ("/coupons", "/notifications", "/notifications/ways"):
        one.open(path)
        assert_accessible(one.page)
