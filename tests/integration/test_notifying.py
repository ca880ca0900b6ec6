"""Notifications written and fanned out: one row a fact, one delivery a target, whoever commits first."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from coupons.issuing import issue_claims
from coupons.stock.store import StockStore
from events.models import Event
from notifications import delivering, preferences
from notifications.models import Delivery, Notification, Outbox, PushSubscription, WebhookEndpoint
from notifications.services import Fact, notify
from tests.factories import make_user, make_users
from tests.sales import reserve

pytestmark = pytest.mark.django_db(transaction=True)

Kind = Notification.Kind


@pytest.fixture(autouse=True)
def _all_channels(settings: Any) -> None:
    settings.EMAIL_ON = True
    settings.VAPID_PRIVATE_KEY = "x" * 43


def deliveries() -> set[tuple[str, str, str]]:
    rows = Delivery.objects.values_list("notification__kind", "channel", "target")
    return set(rows)


def test_a_fact_that_is_told_again_is_the_same_row() -> None:
    user = make_user()
    assert notify(Kind.ADMITTED, [Fact(user.pk, "7-1", {"event_id": 7})]) == 1
    assert notify(Kind.ADMITTED, [Fact(user.pk, "7-1", {"event_id": 8}), Fact(user.pk, "7-2")]) == 1
    first, second = Notification.objects.order_by("id")
    assert (first.kind, first.key, first.data, first.user) == ("admitted", "admitted:7-1", {"event_id": 7}, user)
    assert second.data == {}
    assert [one.notifications for one in Outbox.objects.order_by("id")] == [[first.pk], [second.pk]]


def test_many_facts_are_written_a_thousand_at_a_time_and_all_or_none() -> None:
    users = make_users(1001)
    assert notify(Kind.ADMITTED, (Fact(user, f"{user}") for user in users)) == 1001
    assert [len(one.notifications) for one in Outbox.objects.order_by("id")] == [1000, 1]
    with pytest.raises(ValueError, match="no more"):
        notify(Kind.ADMITTED, _breaking_off(users))
    assert Notification.objects.count() == 1001


def _breaking_off(users: list[int]) -> Iterator[Fact]:
    for user in users:
        yield Fact(user, f"again-{user}")
    raise ValueError("no more")


def test_a_user_who_is_gone_is_not_told() -> None:
    assert notify(Kind.ADMITTED, [Fact(2**40, "7-1")]) == 0
    assert not Outbox.objects.exists()


def test_a_drain_puts_its_notifications_into_the_outbox_once(sale: Callable[..., Event], store: StockStore) -> None:
    event = sale(quantity=5)
    reserve(store, event, *make_users(5))
    issue_claims(event.id, store)
    issue_claims(event.id, store)
    assert [sorted(one.notifications) for one in Outbox.objects.all()] == [
        sorted(Notification.objects.values_list("pk", flat=True))
    ]


def test_everybody_is_told_by_the_ways_that_hold_for_them() -> None:
    user = make_user(email="a@example.com")
    PushSubscription.objects.create(user=user, endpoint="https://push/1", created_at="2026-01-01T00:00Z")
    told = WebhookEndpoint.objects.create(name="a", url="https://a", secret="s", kinds=[Kind.COUPON_ISSUED])
    WebhookEndpoint.objects.create(name="b", url="https://b", secret="s", kinds=[Kind.COUPON_ISSUED], active=False)
    for kind in Kind:
        notify(kind, [Fact(user.pk, "1")])
    assert delivering.fan_out() == len(Kind)
    push = str(PushSubscription.objects.get().pk)
    assert deliveries() == {
        *((kind.value, "websocket", "") for kind in Kind),
        *((kind, "email", "") for kind in ("coupon_issued", "claim_rejected", "claim_held", "sale_opens_soon")),
        *((kind, "push", push) for kind in ("admitted", "sale_opens_soon")),
        ("coupon_issued", "webhook", str(told.pk)),
    }
    assert not Outbox.objects.exists()


def test_what_users_chose_holds_for_them_and_nobody_else() -> None:
    quiet, other = make_user(email="a@example.com"), make_user(email="b@example.com")
    no = {"email": False, "push": False}
    preferences.choose(user_id=quiet.pk, language="en", kinds=dict.fromkeys(Kind.values, no))
    notify(Kind.COUPON_ISSUED, [Fact(quiet.pk, "1"), Fact(other.pk, "2")])
    delivering.fan_out()
    assert {one.notification.user for one in Delivery.objects.filter(channel="email")} == {other}
    assert Delivery.objects.filter(channel="websocket").count() == 2


def test_who_has_no_address_or_was_deactivated_gets_no_mail() -> None:
    nowhere, gone = make_user(), make_user(email="b@example.com", is_active=False)
    notify(Kind.COUPON_ISSUED, [Fact(nowhere.pk, "1"), Fact(gone.pk, "2")])
    delivering.fan_out()
    assert [(one.channel, one.notification.user) for one in Delivery.objects.all()] == [("websocket", nowhere)]


def test_a_channel_that_is_not_set_up_gets_nothing(settings: Any) -> None:
    settings.EMAIL_ON, settings.VAPID_PRIVATE_KEY = False, ""
    user = make_user(email="a@example.com")
    PushSubscription.objects.create(user=user, endpoint="https://push/1", created_at="2026-01-01T00:00Z")
    notify(Kind.SALE_OPENS_SOON, [Fact(user.pk, "1")])
    delivering.fan_out()
    assert {channel for _, channel, _ in deliveries()} == {"websocket"}


def test_what_commits_late_with_an_early_id_is_fanned_out_all_the_same() -> None:
    """A watermark of ids would pass over it."""
    early, late = make_user(), make_user()
    written, go_on = threading.Event(), threading.Event()

    def hold_back() -> None:
        with transaction.atomic():
            notify(Kind.ADMITTED, [Fact(early.pk, "1")])
            written.set()
            go_on.wait(10)
        connection.close()

    holding = threading.Thread(target=hold_back)
    holding.start()
    assert written.wait(10)
    notify(Kind.ADMITTED, [Fact(late.pk, "2")])
    assert delivering.fan_out() == 1
    go_on.set()
    holding.join()
    assert delivering.fan_out() == 1
    one, other = Notification.objects.order_by("id")
    assert (one.user, other.user) == (early, late)
    assert Delivery.objects.count() == 2


def test_two_workers_fan_out_different_rows() -> None:
    user = make_user()
    notify(Kind.ADMITTED, [Fact(user.pk, "1")])
    with transaction.atomic():
        Outbox.objects.select_for_update().get()
        found: list[int] = []

        def other() -> None:
            found.append(delivering.fan_out())
            connection.close()

        working = threading.Thread(target=other)
        working.start()
        working.join(10)
        assert found == [0], "it waits for nobody"
    assert delivering.fan_out() == 1


WAITS = "SELECT count(*) FROM pg_locks WHERE relation = 'notifications_delivery'::regclass AND NOT granted"


def test_one_thread_of_a_worker_fans_out_and_the_others_send() -> None:
    user = make_user()
    notify(Kind.ADMITTED, [Fact(user.pk, "1")])
    fanned_out: list[int] = []

    def other() -> None:
        fanned_out.append(delivering.fan_out())
        connection.close()

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE notifications_delivery IN SHARE MODE")
        working = threading.Thread(target=other)
        working.start()
        while not cursor.execute(WAITS).fetchone()[0]:
            assert working.is_alive()
        notify(Kind.ADMITTED, [Fact(user.pk, "2")])
        assert delivering.fan_out() == 0, "one is at it"
    working.join(10)
    assert fanned_out[0] >= 1


def fan_out_twice() -> int:
    """Whoever repeats a fan-out, by a row of the outbox that is there again: how many deliveries there are then."""
    user = make_user()
    notify(Kind.ADMITTED, [Fact(user.pk, "1")])
    told = Outbox.objects.get().notifications
    delivering.fan_out()
    Outbox.objects.create(notifications=told)
    delivering.fan_out()
    return Delivery.objects.count()


def test_a_fan_out_that_is_repeated_delivers_once() -> None:
    assert fan_out_twice() == 1


def test_negative_control_without_the_key_it_would_deliver_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    unguarded = delivering.FAN_OUT.replace("ON CONFLICT (notification_id, channel, target) DO NOTHING", "")
    assert unguarded != delivering.FAN_OUT
    monkeypatch.setattr(delivering, "FAN_OUT", unguarded)
    with pytest.raises(IntegrityError, match="delivery_once_a_target"):
        fan_out_twice()
    with without_the_key():
        Outbox.objects.all().delete()
        Notification.objects.all().delete()
        assert fan_out_twice() == 2
        Delivery.objects.all().delete()


@contextmanager
def without_the_key() -> Iterator[None]:
    constraint: Any = next(one for one in Delivery._meta.constraints if one.name == "delivery_once_a_target")
    with connection.schema_editor() as editor:
        editor.remove_constraint(Delivery, constraint)
    try:
        yield
    finally:
        with connection.schema_editor() as editor:
            editor.add_constraint(Delivery, constraint)
