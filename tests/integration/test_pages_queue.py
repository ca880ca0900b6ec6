"""The waiting room by pages, as a browser without scripts uses them."""

import re
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from coupons.models import Coupon
from coupons.stock.store import StockStore
from events import services
from events.catalogue import catalogue
from events.models import Event
from events.waiting_room import service
from tests.factories import make_user, make_users
from tests.outages import no_redis
from tests.pages_kit import claim, part_of, text_of
from tests.sales import reserve

pytestmark = pytest.mark.django_db(transaction=True)

Sale = Callable[..., Event]


@pytest.fixture
def room(sale: Sale) -> Callable[..., Event]:
    """Make a sale with a waiting room: `room(max_active=1)`."""

    def make(**fields: Any) -> Event:
        return sale(waiting_room=True, **fields)

    return make


def page_of(event: Event) -> str:
    return f"/events/{event.slug}/queue"


def fill(event: Event, number: int) -> None:
    """Have others come before: the first of them are let in."""
    for user_id in make_users(number):
        service.visit(event.pk, user_id, 1, "join")


def test_who_gets_in_line_and_is_let_in_claims_by_the_form_that_is_there(
    room: Callable[..., Event], browser: Client
) -> None:
    event = room()
    assert f'href="{page_of(event)}"' in browser.get(f"/events/{event.slug}").content.decode()
    assert "You are not in line" in text_of(browser.get(page_of(event)))
    answer = browser.post(page_of(event))
    assert (answer.status_code, answer["Location"]) == (302, page_of(event))
    page = browser.get(page_of(event))
    assert "It is your turn" in text_of(page)
    assert 'http-equiv="refresh"' not in page.content.decode(), "nobody is interrupted who may claim"
    key = re.search(r'name="key" value="([^"]+)"', page.content.decode())
    assert key
    assert claim(browser, event, key.group(1))["Location"].startswith(f"/events/{event.slug}/claims/")


def test_who_waits_sees_their_place_and_the_page_looks_again_when_the_server_says(
    room: Callable[..., Event], browser: Client
) -> None:
    event = room(max_active=1, admission_rate=1)
    fill(event, 3)
    browser.post(page_of(event))
    page = browser.get(page_of(event))
    text, refresh = text_of(page), re.search(r'http-equiv="refresh" content="(\d+)"', page.content.decode())
    place = re.search(r"(\d+) your place in line", text)
    assert place
    assert int(place[1]) >= 2
    assert refresh
    assert 1 <= int(refresh[1]) <= 60
    assert "no-store" in page["Cache-Control"]


def test_before_lots_are_drawn_nobody_has_a_place(room: Callable[..., Event], browser: Client) -> None:
    event = room(
        entry_order="shuffle",
        opens_at=timezone.now() + timedelta(hours=1),
        closes_at=timezone.now() + timedelta(hours=2),
    )
    browser.post(page_of(event))
    assert "At the opening lots are drawn" in text_of(browser.get(page_of(event)))


def test_leaving_gives_the_place_up(room: Callable[..., Event], browser: Client) -> None:
    event = room()
    browser.post(page_of(event))
    assert browser.post(page_of(event), {"leave": "yes"}).status_code == 302
    assert "You are not in line" in text_of(browser.get(page_of(event)))


def test_a_claim_without_a_turn_is_led_to_the_line(room: Callable[..., Event], browser: Client) -> None:
    event = room()
    response = claim(browser, event)
    assert (response.status_code, "It is not your turn yet" in text_of(response)) == (403, True)
    assert f'href="{page_of(event)}"' in response.content.decode()
    assert browser.get(f"/events/{event.slug}/claim")["Location"] == page_of(event)
    assert not Coupon.objects.exists()


def test_the_line_ends_in_words(room: Callable[..., Event], browser: Client, store: StockStore) -> None:
    sold_out, closed = room(quantity=1), room()
    (other,) = make_users(1)
    service.visit(sold_out.pk, other, 1, "join")
    reserve(store, sold_out, other)
    services.close(event_id=closed.pk)
    catalogue.refresh()
    for event, status, words in ((sold_out, 409, "Sold out"), (closed, 403, "The sale is over")):
        response = browser.post(page_of(event))
        assert (response.status_code, words in text_of(response)) == (status, True)


def test_who_has_claimed_is_led_from_the_line_to_the_claim(room: Callable[..., Event], browser: Client) -> None:
    event = room()
    browser.post(page_of(event))
    place = claim(browser, event)["Location"]
    for response in (browser.get(page_of(event)), browser.post(page_of(event))):
        assert (response.status_code, response["Location"]) == (302, place)
    assert part_of(browser, event)["ticket"] is None


def test_without_redis_the_line_is_told_to_come_again(room: Callable[..., Event], browser: Client) -> None:
    event = room()
    browser.get(page_of(event))
    with no_redis():
        for response in (browser.get(page_of(event)), browser.post(page_of(event))):
            assert (response.status_code, "Please try again" in text_of(response)) == (503, True)


def test_a_sale_without_a_waiting_room_has_no_line(sale: Sale, browser: Client) -> None:
    assert browser.get(page_of(sale())).status_code == 404


def test_the_line_needs_a_sign_in(room: Callable[..., Event], client: Client) -> None:
    event = room()
    assert client.get(page_of(event))["Location"] == f"/accounts/login?next={page_of(event)}"


def test_who_belongs_to_the_first_lane_stands_in_it(room: Callable[..., Event], settings: Any) -> None:
    event = room(max_active=1, admission_rate=1)
    fill(event, 20)
    first = make_user()
    first.groups.add(Group.objects.create(name=settings.FIRST_LANE_GROUP))
    places = []
    for user in (make_user(), first):
        client = Client()
        client.force_login(user)
        client.post(page_of(event))
        ticket = client.get(page_of(event)).context["ticket"]
        places.append(ticket.position)
    assert places[1] < places[0]


def test_the_visitor_s_part_tells_of_the_place_in_line(room: Callable[..., Event], browser: Client) -> None:
    event = room()
    assert part_of(browser, event)["ticket"] is None
    browser.post(page_of(event))
    told = part_of(browser, event)["ticket"]
    assert (told["number"], told["status"]) == (1, "admitted")
    with no_redis():
        assert part_of(browser, event)["ticket"] is None


def test_what_lots_are_drawn_by_is_told_before_and_the_seed_itself_afterwards(
    room: Callable[..., Event], client: Client
) -> None:
    later = {"opens_at": timezone.now() + timedelta(hours=1), "closes_at": timezone.now() + timedelta(hours=2)}
    before, after, other = room(entry_order="shuffle", **later), room(entry_order="shuffle"), room()
    for event, told in ((before, False), (after, True)):
        event.refresh_from_db()
        page = client.get(f"/events/{event.slug}").content.decode()
        assert sha256(event.seed.encode()).hexdigest() in page
        assert (event.seed in page) is told
    assert "SHA-256" not in client.get(f"/events/{other.slug}").content.decode()
