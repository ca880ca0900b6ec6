"""The pages of what a claim became: the claim, its coupon, all coupons, a code to scan."""

import io
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import segno
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from coupons import holds, issuing
from coupons.models import Coupon, FailedClaim
from coupons.stock.store import StockStore
from events.models import Event
from tests.factories import make_user
from tests.pages_kit import text_of
from tests.sales import reserve

pytestmark = pytest.mark.django_db(transaction=True)

Sale = Callable[..., Event]


def test_a_foreign_claim_is_not_found(sale: Sale, browser: Client, store: StockStore) -> None:
    event, other = sale(), sale()
    reserve(store, event, make_user().pk)
    foreign = f"{event.pk}-1-1"
    assert browser.get(f"/events/{event.slug}/claims/{foreign}").status_code == 404
    issuing.issue_claims(event.pk, store)
    for slug, claim_id in (
        (event.slug, foreign),
        (other.slug, foreign),
        (event.slug, "nonsense"),
        (event.slug, "1-1-1-1"),
    ):
        response = browser.get(f"/events/{slug}/claims/{claim_id}")
        assert response.status_code == 404
        assert Coupon.objects.get().code not in response.content.decode()


@pytest.mark.parametrize("reason", FailedClaim.Reason.values)
def test_a_rejected_claim_says_why_in_words(sale: Sale, browser: Client, customer: User, reason: str) -> None:
    event = sale()
    FailedClaim.objects.create(
        event=event, user_id=customer.pk, ordinal=1, epoch=1, sequence=5,
        claimed_at=timezone.now(), status="rejected", reason=reason,
    )  # fmt: skip
    text = text_of(browser.get(f"/events/{event.slug}/claims/{event.pk}-1-5"))
    assert "You did not get a coupon" in text
    assert reason not in text.replace("lost by a fault", ""), "a word for people, not the code"


def test_my_coupons_are_mine_and_cost_the_same_however_many(
    sale: Sale, browser: Client, customer: User, store: StockStore
) -> None:
    def look() -> tuple[str, int]:
        with CaptureQueriesContext(connection) as queries:
            return text_of(browser.get("/coupons")), len(queries)

    assert "no coupon yet" in look()[0]
    event = sale(per_user_limit=60, quantity=100, burst=100)
    reserve(store, event, make_user().pk, customer.pk)
    issuing.issue_claims(event.pk, store)
    mine, foreign = Coupon.objects.get(user=customer), Coupon.objects.exclude(user=customer).get()
    text, few = look()
    assert (mine.code in text, foreign.code in text) == (True, False)
    for _ in range(52):
        reserve(store, event, customer.pk)
    issuing.issue_claims(event.pk, store)
    text, many = look()
    assert few == many == 6
    assert "1 of 2" in text
    assert mine.code in text_of(browser.get("/coupons?page=2"))


def test_a_coupon_says_until_when_it_is_good(sale: Sale, browser: Client, customer: User, store: StockStore) -> None:
    ends, endless = sale(valid_until=datetime(2030, 1, 2, tzinfo=UTC)), sale()
    for event in (ends, endless):
        reserve(store, event, customer.pk)
        issuing.issue_claims(event.pk, store)
    assert text_of(browser.get("/coupons")).count("Good until 2 Jan 2030, 09:00 KST") == 1
    assert b"Good until" in browser.get(f"/events/{ends.slug}").content, "in the part that shows when it is issued"
    assert b"Good until" not in browser.get(f"/events/{endless.slug}").content


def test_coupons_and_claims_need_a_sign_in(sale: Sale, client: Client) -> None:
    event = sale()
    assert client.get("/coupons")["Location"] == "/accounts/login?next=/coupons"
    assert client.get(f"/events/{event.slug}/claims/{event.pk}-1-1")["Location"].startswith("/accounts/login?next=")


def test_a_coupon_can_be_scanned_by_its_owner_alone(
    sale: Sale, browser: Client, customer: User, store: StockStore
) -> None:
    event = sale()
    reserve(store, event, customer.pk)
    issuing.issue_claims(event.pk, store)
    code = Coupon.objects.get().code
    address = f"/coupons/{code}/qr.svg"
    assert f'src="{address}"' in browser.get("/coupons").content.decode()
    picture = browser.get(address)
    assert (picture.status_code, picture["Content-Type"]) == (200, "image/svg+xml")
    assert {"private", "max-age=3600"} == set(picture["Cache-Control"].split(", "))
    assert code.encode() not in picture.content
    drawn = io.BytesIO()
    segno.make_qr(code).save(drawn, kind="svg", scale=4, border=4, light="#fff", dark="#000", omitsize=True)
    assert picture.content == drawn.getvalue()
    stranger = Client()
    stranger.force_login(make_user())
    assert stranger.get(address).status_code == 404
    assert Client().get(address)["Location"].startswith("/accounts/login?next=")
    assert browser.get("/coupons/AAAA-BBBB/qr.svg").status_code == 404


# Holds, and claims of several -----------------------------------------------------------------------------------------


def test_what_is_held_is_shown_with_its_end_and_can_be_given_back(
    sale: Sale, browser: Client, customer: User, store: StockStore
) -> None:
    event = sale(hold_seconds=60)
    reserve(store, event, customer.pk)
    issuing.issue_claims(event.pk, store)
    coupon = Coupon.objects.get()
    page = f"/events/{event.slug}/claims/{coupon.claim_id}"
    for address in (page, "/coupons"):
        shown = browser.get(address)
        assert "It is held for you until" in text_of(shown)
        assert coupon.code not in shown.content.decode()
        assert f'action="{page}/cancel"' in shown.content.decode()
    assert browser.get(f"/coupons/{coupon.code}/qr.svg").status_code == 404
    assert browser.get(f"{page}/cancel").status_code == 405
    after = browser.post(f"{page}/cancel", follow=True)
    assert after.redirect_chain == [(page, 302)]
    assert "Your claim was called off before it was confirmed" in text_of(after)
    assert "You have no coupon yet." in text_of(browser.get("/coupons"))
    assert store.snapshot(event.pk).stock == event.quantity


def test_a_confirmed_hold_is_shown_with_its_code_and_cannot_be_given_back(
    sale: Sale, browser: Client, customer: User, store: StockStore
) -> None:
    event = sale(hold_seconds=60)
    reserve(store, event, customer.pk)
    issuing.issue_claims(event.pk, store)
    coupon = Coupon.objects.get()
    holds.confirm(event_id=event.pk, claim_id=str(coupon.claim_id))
    page = f"/events/{event.slug}/claims/{coupon.claim_id}"
    assert coupon.code in text_of(browser.get(page))
    assert coupon.code in text_of(browser.get("/coupons"))
    refused = browser.post(f"{page}/cancel")
    assert refused.status_code == 409
    assert "It is confirmed already" in text_of(refused)


def test_nobody_gives_back_what_is_held_for_another(sale: Sale, browser: Client, store: StockStore) -> None:
    event = sale(hold_seconds=60)
    reserve(store, event, make_user().pk)
    issuing.issue_claims(event.pk, store)
    assert browser.post(f"/events/{event.slug}/claims/{event.pk}-1-1/cancel").status_code == 404
    assert Coupon.objects.get().status == "held"


def test_a_claim_of_several_shows_all_its_coupons(
    sale: Sale, browser: Client, customer: User, store: StockStore
) -> None:
    event = sale(per_user_limit=3)
    store.reserve(event.pk, epoch=1, claims=[(customer.pk, "", 3)])
    issuing.issue_claims(event.pk, store)
    text = text_of(browser.get(f"/events/{event.slug}/claims/{event.pk}-1-1"))
    assert all(code in text for code in Coupon.objects.values_list("code", flat=True))
