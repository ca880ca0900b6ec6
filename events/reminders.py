"""Reminders: who asks is told some minutes before an event opens (`REMIND_BEFORE`), once."""

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from events.errors import EventNotFound, NotNow
from events.models import Event, Reminder
from notifications.models import Notification
from notifications.services import Fact, notify

BATCH = 1000  # reminders a transaction


class OpenedAlready(NotNow):
    """The sale has opened, or is over: there is nothing left to remind you of."""

    code = "closed"


def ask(*, event_id: int, user_id: int) -> None:
    """Note that the user wants to be told; asked again it is the same. `EventNotFound`, `OpenedAlready`."""
    event = Event.objects.public().filter(pk=event_id).first()
    if event is None:
        raise EventNotFound
    if event.status == Event.Status.CLOSED or event.opens_at <= timezone.now():
        raise OpenedAlready(opens_at=event.opens_at)
    Reminder.objects.get_or_create(event=event, user_id=user_id)


def forget(*, event_id: int, user_id: int) -> None:
    """The user does not want to be told any more, if ever they did."""
    Reminder.objects.filter(event_id=event_id, user_id=user_id).delete()


def is_asked(*, event_id: int, user_id: int) -> bool:
    """Whether the user will be told."""
    return Reminder.objects.filter(event_id=event_id, user_id=user_id).exists()


def remind() -> int:
    """Tell everybody whose event opens soon; how many were told.

    By the opening as it is now: one that was moved before counts, and who was told is not told again. Of a sale that is
    paused nobody knows when it opens.
    """
    now = timezone.now()
    soon = Event.objects.filter(
        status=Event.Status.PUBLISHED,
        opens_at__gt=now,
        opens_at__lte=now + timedelta(seconds=settings.REMIND_BEFORE),
        reminders__told_at__isnull=True,
        reminders__isnull=False,
    ).distinct()
    told = 0
    for event in soon:
        while number := _remind_some(event):
            told += number
    return told


def _remind_some(event: Event) -> int:
    """A batch in one transaction; another worker takes others."""
    opens_at = event.opens_at.isoformat()
    data = {"event_id": event.pk, "opens_at": opens_at, "expires_at": opens_at}
    with transaction.atomic():
        waiting = Reminder.objects.filter(event=event, told_at__isnull=True).select_for_update(skip_locked=True)
        reminders = dict(waiting.values_list("pk", "user_id")[:BATCH])
        facts = [Fact(user_id, f"{event.pk}-{user_id}", data) for user_id in reminders.values()]
        notify(Notification.Kind.SALE_OPENS_SOON, facts)
        return Reminder.objects.filter(pk__in=reminders).update(told_at=timezone.now())
