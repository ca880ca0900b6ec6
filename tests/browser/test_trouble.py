"""What goes wrong while people wait: they are told, and lose nothing."""

from collections.abc import Callable

import pytest

from events.models import Event
from tests.browser.conftest import PHONE, Visit
from tests.browser.crowd import join_others
from tests.web import Server

pytestmark = pytest.mark.browser
Sale = Callable[..., Event]

SLOW = {"waiting_room": True, "admission_rate": 1, "max_active": 1, "pass_ttl": 600}


def test_the_server_is_restarted_while_one_waits(visit: Visit, sale: Sale, site: Server) -> None:
    event = sale(quantity=100, **SLOW)
    join_others(event, 3)
    one = visit(may_fail=True)
    one.sign_in(f"/events/{event.slug}")
    one.page.click("[data-join] button")
    one.stage("waiting")
    place = one.page.inner_text("[data-position]")
    site.kill()
    one.page.wait_for_selector("[data-trouble]:visible")
    one.picture("trouble")
    assert one.page.inner_text("[data-position]") == place
    site.start()
    site.wait()
    one.page.wait_for_selector("[data-trouble]", state="hidden")
    one.stage("waiting")
    assert one.page.inner_text("[data-position]") == place


def test_offline_and_back(visit: Visit, sale: Sale) -> None:
    event = sale(quantity=100, **SLOW)
    join_others(event, 3)
    one = visit(may_fail=True, viewport=PHONE, locale="ko-KR", color_scheme="dark")
    one.sign_in(f"/events/{event.slug}")
    one.page.click("[data-join] button")
    one.stage("waiting")
    one.context.set_offline(True)
    one.page.wait_for_selector("[data-trouble-what=offline]:visible")
    one.picture("offline")
    one.context.set_offline(False)
    one.page.wait_for_selector("[data-trouble]", state="hidden")
    one.stage("waiting")
