"""Reminders: who asks is told before the opening, once."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from events import reminders, services
from events.models import Event, Reminder
from notifications.models import Notification
from tests.api_kit import Caller, problem_of
from tests.factories import make_event, make_user

pytestmark = pytest.mark.django_db(transaction=True)

Sale = Callable[..., Event]


@pytest.fixture(autouse=True)
def _ten_minutes_before(settings: Any) -> None:
    settings.REMIND_BEFORE = 600


def in_minutes(minutes: float) -> Any:
    return timezone.now() + timedelta(minutes=minutes)


def path_of(event: Event) -> str:
    return f"/api/v1/events/{event.pk}/reminder"


def delete(caller: Caller, path: str) -> Any:
    return caller.client.delete(path, headers=caller._headers({}))


def moved(event: Event, minutes: float) -> None:
    terms = {name: getattr(event, name) for name in ("quantity", "per_user_limit", "rate_per_second", "burst")}
    services.change(event_id=event.pk, opens_at=in_minutes(minutes), closes_at=event.closes_at, **terms)


def told() -> list[int]:
    return sorted(Notification.objects.filter(kind="sale_opens_soon").values_list("user_id", flat=True))


def test_who_asks_is_told_some_minutes_before(sale: Sale) -> None:
    user, event = make_user(), sale(opens_at=in_minutes(11))
    caller = Caller(user)
    for _ in range(2):
        assert caller.post(path_of(event)).status_code == 204
    assert Reminder.objects.count() == 1
    assert reminders.remind() == 0, "too early"
    moved(event, 9)
    assert reminders.remind() == 1
    event.refresh_from_db()
    notification = Notification.objects.get()
    opens_at = event.opens_at.isoformat()
    assert notification.data == {"event_id": event.pk, "opens_at": opens_at, "expires_at": opens_at}
    assert notification.user == user


def test_nobody_is_told_twice_though_the_opening_is_moved(sale: Sale) -> None:
    event = sale(opens_at=in_minutes(5))
    user = make_user()
    reminders.ask(event_id=event.pk, user_id=user.pk)
    assert reminders.remind() == 1
    moved(event, 30)
    assert reminders.remind() == 0
    moved(event, 5)
    assert reminders.remind() == 0
    late = make_user()
    reminders.ask(event_id=event.pk, user_id=late.pk)
    assert reminders.remind() == 1
    assert told() == [user.pk, late.pk]


def test_who_asks_again_after_having_been_told_is_not_told_again(sale: Sale) -> None:
    event, user = sale(opens_at=in_minutes(5)), make_user()
    for _ in range(2):
        reminders.ask(event_id=event.pk, user_id=user.pk)
        reminders.remind()
        reminders.forget(event_id=event.pk, user_id=user.pk)
    assert told() == [user.pk]


def test_who_does_not_want_it_any_more_is_not_told(sale: Sale) -> None:
    event, user, other = sale(opens_at=in_minutes(5)), make_user(), make_user()
    caller = Caller(user)
    caller.post(path_of(event))
    assert delete(Caller(other), path_of(event)).status_code == 204
    assert Reminder.objects.exists(), "it is another's"
    for _ in range(2):
        assert delete(caller, path_of(event)).status_code == 204
    assert reminders.remind() == 0


def test_nobody_is_told_of_what_is_paused_closed_or_open_by_now(sale: Sale) -> None:
    paused, closed, opened = (sale(opens_at=in_minutes(5)) for _ in range(3))
    for event in (paused, closed, opened):
        reminders.ask(event_id=event.pk, user_id=make_user().pk)
    services.pause(event_id=paused.pk)
    services.close(event_id=closed.pk)
    moved(opened, -1)
    assert reminders.remind() == 0
    services.resume(event_id=paused.pk)
    assert reminders.remind() == 1


def test_there_is_nothing_to_be_reminded_of_once_it_has_opened(sale: Sale) -> None:
    caller = Caller(make_user())
    closed = services.close(event_id=sale(opens_at=in_minutes(5)).pk)
    for event in (sale(), closed):
        assert "opens_at" in problem_of(caller.post(path_of(event)), "closed")
    problem_of(caller.post(path_of(make_event(opens_at=in_minutes(5)))), "not_found")
    problem_of(caller.post("/api/v1/events/999999/reminder"), "not_found")
    problem_of(Caller().post(path_of(closed)), "unauthenticated")
    assert delete(caller, "/api/v1/events/999999/reminder").status_code == 204


def test_two_workers_remind_different_users(sale: Sale) -> None:
    event = sale(opens_at=in_minutes(5))
    reminders.ask(event_id=event.pk, user_id=make_user().pk)
    found: list[int] = []

    def other() -> None:
        found.append(reminders.remind())
        connection.close()

    with transaction.atomic():
        Reminder.objects.select_for_update().get()
        working = threading.Thread(target=other)
        working.start()
        working.join(10)
    assert found == [0]
    assert reminders.remind() == 1
