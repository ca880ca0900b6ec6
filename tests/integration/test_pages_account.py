"""The visitor's own pages beside coupons: notifications, reminders, a token for scripts, the service worker."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from coupons import issuing
from coupons.stock.store import StockStore
from events.models import Event, Reminder
from notifications import preferences
from notifications.models import Notification
from tests import outages
from tests.factories import make_user
from tests.pages_kit import part_of, text_of
from tests.sales import reserve

pytestmark = pytest.mark.django_db(transaction=True)

Sale = Callable[..., Event]
HOUR = timedelta(hours=1)


def tell(user: User, event: Event, kind: str = "admitted", number: int = 1) -> list[Notification]:
    """Notifications, as they are written by whoever has something to tell."""
    return Notification.objects.bulk_create(
        Notification(
            user=user, kind=kind, key=f"{kind}:{user.pk}:{n}", data={"event_id": event.pk}, created_at=timezone.now()
        )
        for n in range(number)
    )


def test_notifications_are_told_in_the_language_of_the_page_and_cost_the_same_however_many(
    sale: Sale, browser: Client, customer: User, store: StockStore
) -> None:
    def look() -> tuple[str, int]:
        with CaptureQueriesContext(connection) as queries:
            return text_of(browser.get("/notifications")), len(queries)

    assert "Nothing yet" in look()[0]
    event = sale(title="Lunch")
    reserve(store, event, customer.pk)
    issuing.issue_claims(event.pk, store)
    text, few = look()
    assert "Lunch: your coupon is here" in text
    tell(customer, event, number=29)
    assert look()[1] == few
    assert "Lunch: 쿠폰" in text_of(browser.get("/notifications?page=1", headers={"Accept-Language": "ko"}))
    tell(make_user(), event)
    tell(customer, event, kind="claim_rejected")
    assert "1 of 2" in look()[0]


def test_the_number_of_unread_ones_is_on_every_page_until_they_are_read(
    sale: Sale, browser: Client, customer: User
) -> None:
    def unread() -> int:
        heads = [browser.get(path).content.decode().partition("<main")[0] for path in ("/coupons", "/")]
        badges = {"".join(re.findall(r'class="badge"[^>]*>(\d+)<', head)) or "0" for head in heads}
        assert badges == {str(part_of(browser, event)["unread"])}
        return int(badges.pop())

    event = sale()
    first, *_ = tell(customer, event, number=3)
    tell(make_user(), event)
    assert unread() == 3
    assert browser.get(f"/notifications/{first.pk}")["Location"] == f"/events/{event.slug}"
    assert unread() == 2
    assert browser.post("/notifications/read")["Location"] == "/notifications"
    assert unread() == 0
    assert Notification.objects.filter(read_at__isnull=True).count() == 1, "another's stays as it was"


def test_another_s_notification_is_not_found(sale: Sale, browser: Client) -> None:
    (foreign,) = tell(make_user(), sale())
    assert browser.get(f"/notifications/{foreign.pk}").status_code == 404
    foreign.refresh_from_db()
    assert foreign.read_at is None


def test_the_ways_to_be_told_are_chosen_by_a_form(browser: Client, customer: User) -> None:
    def ticked() -> set[str]:
        page = browser.get("/notifications/ways").content.decode()
        return set(re.findall(r'name="(\w+\.\w+)"[^>]* checked', page))

    assert "coupon_issued.email" in ticked()
    chosen = {"language": "en", "admitted.push": "on", "sale_opens_soon.email": "on", "admitted.carrier_pigeon": "on"}
    answer = browser.post("/notifications/ways", chosen, follow=True)
    assert "Your choice is saved." in text_of(answer)
    assert ticked() == {"admitted.push", "sale_opens_soon.email"}
    assert preferences.of(customer.pk).language == "en"
    browser.post("/notifications/ways", {"language": "xx"})
    assert (ticked(), preferences.of(customer.pk).language) == (set(), "en")


def test_a_reminder_is_asked_for_and_given_up_by_a_form(sale: Sale, browser: Client, customer: User) -> None:
    event = sale(opens_at=timezone.now() + HOUR, closes_at=timezone.now() + 2 * HOUR)
    address = f"/events/{event.slug}/remind"
    assert f'href="{address}"' in browser.get(f"/events/{event.slug}").content.decode()
    assert not part_of(browser, event)["reminded"]
    assert "Remind me" in text_of(browser.get(address))
    assert browser.post(address)["Location"] == f"/events/{event.slug}?lang=en"
    assert Reminder.objects.get().user == customer
    assert part_of(browser, event)["reminded"]
    assert "Do not remind me" in text_of(browser.get(address))
    browser.post(address, {"forget": "yes"})
    assert not Reminder.objects.exists()


def test_of_a_sale_that_is_open_nobody_is_reminded(sale: Sale, browser: Client) -> None:
    event = sale()
    assert browser.post(f"/events/{event.slug}/remind")["Location"] == f"/events/{event.slug}?lang=en"
    assert not Reminder.objects.exists()


@pytest.mark.parametrize(
    "address", ["/notifications", "/notifications/1", "/notifications/ways", "/events/none/remind"]
)
def test_what_is_the_visitor_s_own_needs_a_sign_in(client: Client, address: str) -> None:
    assert client.get(address)["Location"] == f"/accounts/login?next={address}"
    assert client.post("/notifications/read")["Location"].startswith("/accounts/login")


def test_what_is_the_visitor_s_own_is_kept_by_no_cache(browser: Client) -> None:
    for address in ("/notifications", "/accounts/token"):
        assert "no-store" in browser.get(address)["Cache-Control"]
    assert "private" in browser.get("/")["Cache-Control"], "it says who looks, and how much is unread"


def test_scripts_get_a_token_to_subscribe_to_pushes_with(browser: Client, client: Client) -> None:
    assert client.get("/accounts/token").json()["token"] is None
    token = browser.get("/accounts/token").json()["token"]
    page = browser.get("/notifications").content.decode()
    for address in ("/accounts/token", "/api/v1/push/key", "/api/v1/push/subscriptions"):
        assert f'"{address}"' in page
    answer = Client().get("/api/v1/notifications", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200


def test_without_the_database_a_script_is_told_to_come_again(browser: Client) -> None:
    with outages.no_database():
        answer = browser.get("/accounts/token")
    assert (answer.status_code, "Retry-After" in answer) == (503, True)


def test_the_service_worker_is_where_it_serves_all_pages(client: Client) -> None:
    answer: Any = client.get("/service-worker.js")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/javascript")
    assert b"showNotification" in answer.content
