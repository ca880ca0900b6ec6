"""The admin of deliveries and webhooks."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from notifications import delivering
from notifications.models import Delivery, Notification, SilentTarget, WebhookEndpoint
from notifications.services import Fact, notify
from tests.factories import make_user, make_users

pytestmark = pytest.mark.django_db(transaction=True)

DELIVERIES, ENDPOINTS = "/admin/notifications/delivery/", "/admin/notifications/webhookendpoint/"
NAMES = ("notification", "delivery", "webhookendpoint", "silenttarget")
FORM = {"name": "Shop", "url": "https://shop.example.com/hook", "kinds": ["coupon_issued"], "active": "on"}


def signed_in(*permissions: str) -> Client:
    user = make_user(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator() -> Client:
    views = [f"view_{name}" for name in NAMES]
    return signed_in("change_delivery", "add_webhookendpoint", "change_webhookendpoint", *views)


def dead_delivery() -> Delivery:
    notify(Notification.Kind.ADMITTED, [Fact(make_user().pk, "1")])
    delivering.fan_out()
    delivery = Delivery.objects.get()
    Delivery.objects.update(status="dead", attempts=12, error="HTTP 500")
    return delivery


def replay(client: Client, delivery: Delivery) -> Any:
    return client.post(DELIVERIES, {"action": "replay", "_selected_action": [delivery.pk]}, follow=True)


def messages_of(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def test_the_log_tells_what_became_of_each_delivery(operator: Client) -> None:
    delivery = dead_delivery()
    page = operator.get(DELIVERIES).content.decode()
    assert delivery.dedupe_key in page
    assert "HTTP 500" in page
    assert operator.get(f"{DELIVERIES}{delivery.pk}/change/").status_code == 200
    assert operator.get(f"{DELIVERIES}?q={delivery.notification_id}").status_code == 200
    for name in ("notification", "silenttarget"):
        assert operator.get(f"/admin/notifications/{name}/").status_code == 200


def test_the_log_says_how_far_it_goes_back(operator: Client, settings: Any) -> None:
    settings.DELIVERIES_KEPT = 45
    assert "Deliveries of more than 45 days ago are deleted" in operator.get(DELIVERIES).content.decode()


def test_a_dead_delivery_is_sent_again(operator: Client) -> None:
    delivery = dead_delivery()
    SilentTarget.objects.create(channel="websocket", target="", retry_at=delivery.created_at)
    assert messages_of(replay(operator, delivery)) == ["1 delivery is sent again."]
    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts) == ("pending", 0)
    assert not SilentTarget.objects.exists()
    assert delivering.deliver("websocket") == 1


def test_all_that_a_filter_finds_is_sent_again_however_much_it_is(operator: Client) -> None:
    notify(Notification.Kind.ADMITTED, [Fact(user, str(user)) for user in make_users(3)])
    delivering.fan_out()
    first, *_ = Delivery.objects.values_list("pk", flat=True)
    Delivery.objects.exclude(pk=first).update(status="dead")
    Delivery.objects.filter(pk=first).update(status="sent")
    dead = f"{DELIVERIES}?status__exact=dead&notification__kind__exact=admitted"
    chosen = {"action": "replay", "_selected_action": [first], "select_across": "1"}
    with CaptureQueriesContext(connection) as queries:
        answer = operator.post(dead, chosen, follow=True)
    assert messages_of(answer) == ["2 deliveries are sent again."]
    assert set(Delivery.objects.values_list("pk", "status")) & {(first, "pending")} == set()
    updates = [one["sql"] for one in queries if one["sql"].startswith('UPDATE "notifications_delivery"')]
    assert len(updates) == 1
    assert not re.search(r" IN \(\d", updates[0]), "a million would be no statement any more"


def test_who_may_only_look_cannot_replay() -> None:
    delivery = dead_delivery()
    replay(signed_in("view_delivery"), delivery)
    delivery.refresh_from_db()
    assert delivery.status == "dead"


def test_the_secret_of_a_webhook_is_shown_once(operator: Client) -> None:
    added = operator.post(f"{ENDPOINTS}add/", FORM, follow=True)
    endpoint = WebhookEndpoint.objects.get()
    assert (endpoint.kinds, endpoint.active) == (["coupon_issued"], True)
    assert endpoint.secret.startswith("whsec_")
    assert any(endpoint.secret in message for message in messages_of(added))
    for path in (ENDPOINTS, f"{ENDPOINTS}{endpoint.pk}/change/"):
        assert endpoint.secret not in operator.get(path).content.decode()


def test_a_change_keeps_the_secret_and_the_action_renews_it(operator: Client) -> None:
    operator.post(f"{ENDPOINTS}add/", FORM, follow=True)  # the page that shows the first one
    first = WebhookEndpoint.objects.get()
    changed = operator.post(f"{ENDPOINTS}{first.pk}/change/", FORM | {"name": "Other", "secret": "x"}, follow=True)
    second = WebhookEndpoint.objects.get()
    assert (second.name, second.secret) == ("Other", first.secret)
    assert first.secret not in changed.content.decode()
    renewed = operator.post(ENDPOINTS, {"action": "renew_secret", "_selected_action": [first.pk]}, follow=True)
    third = WebhookEndpoint.objects.get()
    assert third.secret != first.secret
    assert any(third.secret in message for message in messages_of(renewed))


@pytest.mark.parametrize("url", ["http://shop.example.com/", "https://10.0.0.1/", "https://a:b@shop.example.com/"])
def test_an_address_that_nothing_would_be_sent_to_is_refused(operator: Client, url: str) -> None:
    refused = operator.post(f"{ENDPOINTS}add/", FORM | {"url": url})
    assert refused.status_code == 200
    assert "url" in refused.context["adminform"].form.errors
    assert not WebhookEndpoint.objects.exists()


def test_a_webhook_is_switched_off_and_never_deleted(operator: Client) -> None:
    operator.post(f"{ENDPOINTS}add/", FORM)
    pk = WebhookEndpoint.objects.get().pk
    assert operator.post(f"{ENDPOINTS}{pk}/delete/", {"post": "yes"}).status_code == 403
    operator.post(f"{ENDPOINTS}{pk}/change/", {name: value for name, value in FORM.items() if name != "active"})
    assert not WebhookEndpoint.objects.get().active
