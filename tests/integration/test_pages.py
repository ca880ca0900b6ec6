"""The pages for visitors, as a browser without scripts uses them."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from config import problems
from coupons import issuing
from coupons.models import Coupon
from coupons.stock.store import StockStore
from events import services
from events.catalogue import catalogue
from events.models import Event
from events.pages import frame
from tests.api_kit import redis_round_trips
from tests.factories import make_event, make_user
from tests.outages import no_database, no_redis
from tests.pages_kit import claim, part_of, press, text_of
from tests.sales import assert_sum, reserve

pytestmark = pytest.mark.django_db(transaction=True)

Sale = Callable[..., Event]
HOUR = timedelta(hours=1)


# --- To look at -------------------------------------------------------------------------------------------------------


def test_the_sale_tells_what_it_gives_and_how_many_are_left(sale: Sale, store: StockStore, client: Client) -> None:
    event = sale(title="Lunch", description="On <everything>.", quantity=1500)
    reserve(store, event, make_user().pk)
    text = text_of(client.get(f"/events/{event.slug}"))
    for words in (
        "Lunch",
        "₩10,000 off",
        "On &lt;everything&gt;.",
        "1,499 of 1,500 left",
        "Claim a coupon",
        "One coupon each.",
    ):
        assert words in text


def test_each_phase_is_told(sale: Sale, store: StockStore, client: Client) -> None:
    def told(event: Event) -> tuple[str, str]:
        catalogue.refresh()
        response = client.get(f"/events/{event.slug}")
        assert response.status_code == 200
        return response.context["shown"].phase.value, text_of(response)

    future, event, small = (
        sale(opens_at=timezone.now() + HOUR, closes_at=timezone.now() + 2 * HOUR),
        sale(),
        sale(quantity=1),
    )
    phase, text = told(future)
    assert (phase, "Opens" in text) == ("scheduled", True)
    assert told(event)[0] == "open"
    services.pause(event_id=event.pk)
    phase, text = told(event)
    assert (phase, "you lose nothing by waiting" in text, "Claim a coupon" in text) == ("paused", True, False)
    services.close(event_id=event.pk)
    phase, text = told(event)
    assert (phase, "The sale is over" in text, " left" in text) == ("closed", True, False)
    reserve(store, small, make_user().pk)
    phase, text = told(small)
    assert (phase, "All coupons are claimed" in text, "0 of 1 left" in text) == ("sold_out", True, True)


def test_the_button_is_there_before_the_opening_and_leads_to_the_form_from_then_on(sale: Sale, client: Client) -> None:
    for event, button, link in (
        (sale(opens_at=timezone.now() + timedelta(minutes=1)), True, False),
        (sale(), False, True),
    ):
        page = client.get(f"/events/{event.slug}").content.decode()
        shown = re.findall(r"<(a|button) [^>]*data-when[^>]*>Claim a coupon", re.sub(r"<[^>]* hidden>", "", page))
        assert ("button" in shown, "a" in shown) == (button, link)


def test_the_page_bears_the_times_that_the_countdown_needs(sale: Sale, client: Client) -> None:
    event = sale()
    page = client.get(f"/events/{event.slug}").content.decode()
    numbers = {name: int(value) for name, value in re.findall(r'data-(opens-at|closes-at)="(\d+)"', page)}
    assert numbers["opens-at"] == round(event.opens_at.timestamp() * 1000)
    assert numbers["closes-at"] == round(event.closes_at.timestamp() * 1000)
    state, me = (re.search(rf'data-{name}="([^"]+)"', page) for name in ("state", "me"))
    assert state
    assert me
    assert client.get(state.group(1)).json()["event_id"] == event.pk, "the script asks where the API answers"
    before = timezone.now().timestamp() * 1000
    told = client.get(me.group(1)).json()["server_time"]
    assert before - 1 <= told <= timezone.now().timestamp() * 1000 + 1


def test_the_page_of_a_sale_is_the_same_for_everyone_and_may_be_kept_for_a_moment(
    sale: Sale, browser: Client, customer: User
) -> None:
    event = sale()
    reserved = press(browser, event)
    assert reserved.status_code == 302
    staff, stranger = (
        Client(),
        Client(headers={"Cookie": "sessionid=x; csrftoken=x; messages=x; django_language=ko"}),
    )
    staff.force_login(make_user(is_staff=True))
    catalogue.refresh()
    pages = [visitor.get(f"/events/{event.slug}") for visitor in (browser, staff, stranger, Client())]
    assert len({page.content for page in pages}) == 1
    assert customer.username.encode() not in pages[0].content
    for page in pages:
        assert page["Cache-Control"] == "public, max-age=5"
        assert page["ETag"] == pages[0]["ETag"]
        assert not page.cookies
        assert page["Vary"] == "Accept-Language"


def test_what_is_for_all_sets_nobody_s_cookies(sale: Sale) -> None:
    event = sale()
    broken = Client(headers={"Cookie": "sessionid=x; csrftoken=x"})
    assert broken.get("/").cookies, "Django mends cookies that it cannot read"
    for path in (f"/events/{event.slug}", f"/api/v1/events/{event.pk}/state", "/api/schema"):
        answer = broken.get(path)
        assert "public" in answer["Cache-Control"]
        assert not answer.cookies
        assert "Cookie" not in answer.get("Vary", "")


def test_who_has_the_page_of_a_sale_is_told_so(sale: Sale, browser: Client, client: Client, store: StockStore) -> None:
    event = sale()
    tag = client.get(f"/events/{event.slug}")["ETag"]
    again = browser.get(f"/events/{event.slug}", headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", tag)
    assert "max-age=5" in again["Cache-Control"]
    reserve(store, event, make_user().pk)
    catalogue.refresh()
    assert client.get(f"/events/{event.slug}", headers={"If-None-Match": tag}).status_code == 200


def test_a_look_costs_one_query_and_asks_nothing_of_redis_whoever_looks(
    sale: Sale, client: Client, browser: Client
) -> None:
    event = sale()
    for visitor in (client, browser):
        visitor.get(f"/events/{event.slug}")
        with CaptureQueriesContext(connection) as queries, redis_round_trips() as sent:
            visitor.get(f"/events/{event.slug}")
        assert len(queries) == 1
        assert sent == []


def test_the_list_costs_two_queries_however_many_sales(sale: Sale, client: Client) -> None:
    for n in range(3):
        sale(title=f"On {n}")
    over = sale(title="Past")
    services.close(event_id=over.pk)
    make_event(title="Nobody's yet")
    client.get("/")
    with CaptureQueriesContext(connection) as queries, redis_round_trips() as sent:
        text = text_of(client.get("/"))
    assert len(queries) == 2
    assert sent == []
    for words in ("On 0", "On 1", "On 2", "Over", "Past"):
        assert words in text
    assert "Nobody's yet" not in text


def test_drafts_and_unknown_sales_are_not_found(browser: Client) -> None:
    draft = make_event()
    for slug in (draft.slug, "nothing-here"):
        response = browser.get(f"/events/{slug}")
        assert (response.status_code, "Not found" in text_of(response)) == (404, True)
        assert browser.post(f"/events/{slug}/claim").status_code == 404
    response = browser.get("/no/such/page")
    assert (response.status_code, "See the sales" in text_of(response)) == (404, True)


def test_a_page_answers_to_reading_only(sale: Sale, client: Client) -> None:
    event = sale()
    for address in ("/", f"/events/{event.slug}"):
        assert client.post(address).status_code == 405
        assert client.head(address).status_code == 200


# --- To claim ---------------------------------------------------------------------------------------------------------


def test_a_claim_by_the_form_leads_to_its_page_and_to_the_code(
    sale: Sale, browser: Client, customer: User, store: StockStore
) -> None:
    event = sale()
    response = press(browser, event)
    assert (response.status_code, response["Location"]) == (302, f"/events/{event.slug}/claims/{event.pk}-1-1")
    page = browser.get(response["Location"])
    assert "Your claim is accepted" in text_of(page)
    assert 'http-equiv="refresh"' in page.content.decode(), "without scripts it looks again too"
    issuing.issue_claims(event.pk, store)
    page = browser.get(response["Location"])
    coupon = Coupon.objects.get(user=customer)
    assert coupon.code in text_of(page)
    assert 'http-equiv="refresh"' not in page.content.decode()
    assert coupon.code in text_of(browser.get("/coupons"))
    assert_sum(store, event)


def test_the_same_form_sent_twice_is_one_claim(sale: Sale, browser: Client, store: StockStore) -> None:
    event = sale(per_user_limit=2)
    first, second = claim(browser, event, "key"), claim(browser, event, "key")
    assert (first.status_code, first["Location"]) == (second.status_code, second["Location"])
    assert store.snapshot(event.pk).backlog == 1
    assert claim(browser, event, "another")["Location"] != first["Location"]


def test_each_showing_of_the_form_has_a_key_of_its_own(sale: Sale, browser: Client) -> None:
    event = sale(per_user_limit=2)
    assert press(browser, event)["Location"] != press(browser, event)["Location"]


def test_who_has_claimed_already_is_led_to_the_claim(sale: Sale, browser: Client) -> None:
    event = sale()
    first = press(browser, event)
    for again in (claim(browser, event, "another"), browser.get(f"/events/{event.slug}/claim")):
        assert again.status_code == 409
        assert f'href="{first["Location"]}"' in again.content.decode()


def test_a_claim_before_the_opening_is_refused_in_words(sale: Sale, browser: Client) -> None:
    event = sale(opens_at=timezone.now() + HOUR, closes_at=timezone.now() + 2 * HOUR)
    for response in (claim(browser, event), browser.get(f"/events/{event.slug}/claim")):
        assert (response.status_code, "Not open yet" in text_of(response)) == (403, True)
        assert f'href="/events/{event.slug}?lang=en"' in response.content.decode()


@pytest.mark.parametrize(
    ("service", "words"), [(services.pause, "The sale is paused"), (services.close, "The sale is over")]
)
def test_a_claim_on_a_sale_that_was_stopped_is_refused_in_words(
    sale: Sale, browser: Client, service: Callable[..., Event], words: str
) -> None:
    event = sale()
    service(event_id=event.pk)
    catalogue.refresh()
    for response in (claim(browser, event), browser.get(f"/events/{event.slug}/claim")):
        assert (response.status_code, words in text_of(response)) == (403, True)


def test_a_claim_on_a_sold_out_sale_is_refused_in_words(sale: Sale, browser: Client, store: StockStore) -> None:
    event = sale(quantity=1)
    reserve(store, event, make_user().pk)
    catalogue.refresh()
    for response in (claim(browser, event), browser.get(f"/events/{event.slug}/claim")):
        assert (response.status_code, "Sold out" in text_of(response)) == (409, True)


def test_who_is_too_quick_is_told_to_wait_and_can_send_the_same_claim_again(sale: Sale, browser: Client) -> None:
    event = sale(rate_per_second=1, burst=1)
    claim(browser, event, "first")
    response = claim(browser, event, "key to keep")
    assert (response.status_code, response["Retry-After"]) == (429, "1")
    assert 'value="key to keep"' in response.content.decode()


def test_without_redis_a_claim_is_told_to_try_again_under_the_same_key(sale: Sale, browser: Client) -> None:
    event = sale()
    browser.get(f"/events/{event.slug}")
    with no_redis():
        response = claim(browser, event, "key to keep")
        assert (response.status_code, response["Retry-After"]) == (503, "1")
        assert 'value="key to keep"' in response.content.decode()
        assert browser.get(f"/events/{event.slug}").status_code == 200, "a look goes on"
        assert browser.get(f"/events/{event.slug}/claims/{event.pk}-1-1").status_code == 503


def test_without_the_database_a_page_is_a_quick_refusal_in_words(sale: Sale, browser: Client, client: Client) -> None:
    event = sale()
    with no_database():
        for visitor in (browser, client):
            for address in ("/", f"/events/{event.slug}"):
                response = visitor.get(address)
                assert (response.status_code, response["Retry-After"]) == (503, "1")
                assert "no-store" in response["Cache-Control"]
                assert "Please try again" in text_of(response)
        assert claim(browser, event).status_code == 503


def test_who_is_not_signed_in_is_asked_to_and_comes_back_to_claim(sale: Sale, client: Client) -> None:
    event = sale()
    form = f"/events/{event.slug}/claim"
    address = f"/accounts/login?next={form}"
    assert f'"/accounts/login?next=/events/{event.slug}"' in client.get(f"/events/{event.slug}").content.decode()
    assert claim(client, event)["Location"] == client.get(form)["Location"] == address
    User.objects.create_user("mina", password="a good password")
    answer = client.post(address, {"username": "mina", "password": "a good password", "next": form})
    assert (answer.status_code, answer["Location"]) == (302, form)
    assert press(client, event).status_code == 302


def test_the_form_takes_nothing_but_to_be_read_and_sent(sale: Sale, browser: Client) -> None:
    event = sale()
    assert browser.put(f"/events/{event.slug}/claim").status_code == 405
    assert browser.post(f"/events/{event.slug}/me").status_code == 405


def test_a_claim_needs_the_token_of_the_form(sale: Sale, customer: User, store: StockStore) -> None:
    event = sale(per_user_limit=2)
    client = Client(enforce_csrf_checks=True)
    client.force_login(customer)
    response = claim(client, event)
    assert (response.status_code, "open too long" in text_of(response)) == (403, True)
    assert store.snapshot(event.pk).backlog == 0
    told = part_of(client, event)
    script = {"key": told["key"], "csrfmiddlewaretoken": told["csrf_token"]}
    form = client.get(f"/events/{event.slug}/claim").content.decode().partition("<main")[2]
    fields = dict(re.findall(r'name="(key|csrfmiddlewaretoken)" value="([^"]+)"', form))
    assert set(fields) == set(script)
    answers = [client.post(f"/events/{event.slug}/claim", sent) for sent in (script, fields)]
    assert [answer.status_code for answer in answers] == [302, 302]
    assert answers[0]["Location"] != answers[1]["Location"], "each form has a key of its own"


# --- What the browser may do ------------------------------------------------------------------------------------------


def test_pages_load_and_send_nothing_elsewhere(sale: Sale, browser: Client, store: StockStore) -> None:
    event = sale()
    mine = press(browser, event)["Location"]
    pages = [
        mine,
        "/",
        f"/events/{event.slug}",
        "/coupons",
        "/accounts/login",
        "/events/none",
        f"/events/{event.slug}/claims/x",
    ]
    for address in pages:
        response = browser.get(address)
        policy = response["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        page = response.content.decode()
        assert not re.findall(r'(?:src|href|action)="(?:https?:)?//', page), address
        assert not re.findall(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", page), "nothing inline"
        for name in re.findall(r'(?:src|href)="/static/([^"]+)"', page):
            assert finders.find(name), name


def test_personal_pages_are_kept_by_no_cache(sale: Sale, browser: Client) -> None:
    event = sale()
    mine = press(browser, event)["Location"]
    for address in (mine, f"/events/{event.slug}/claim", f"/events/{event.slug}/me", "/coupons", "/events/none"):
        assert "no-store" in browser.get(address)["Cache-Control"]


def test_our_scripts_import_what_is_there() -> None:
    folder = Path(settings.BASE_DIR) / "static" / "pages"
    for script in folder.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', script.read_text()):
            assert (folder / name).exists()


def test_pages_and_api_answer_a_refusal_with_the_same_status() -> None:
    assert {code: status.value for code, status in frame.STATUS.items()} == {
        code: problems.KINDS[code].status for code in frame.STATUS
    }
