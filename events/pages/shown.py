"""A sale as visitors see it: its text from the database, its stock and phase from the process's memory."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from events.catalogue import catalogue
from events.errors import EventNotFound
from events.models import Event, Phase
from events.waiting_room.public import drawn_by


@dataclass(frozen=True, slots=True)
class Shown:
    """A sale at a moment. `remaining` is None where nobody knows."""

    event: Event
    now: datetime
    remaining: int | None

    @property
    def phase(self) -> Phase:
        """The phase at that moment."""
        return self.event.phase(now=self.now, remaining=self.remaining)

    @property
    def opens_ms(self) -> int:
        """When it opens, in milliseconds, for the countdown."""
        return milliseconds(self.event.opens_at)

    @property
    def closes_ms(self) -> int:
        """When it closes, likewise."""
        return milliseconds(self.event.closes_at)

    @property
    def lots(self) -> dict[str, Any] | None:
        """What lots are drawn by, as far as it is public; None where none are."""
        shuffled = self.event.waiting_room and self.event.entry_order == Event.EntryOrder.SHUFFLE
        return drawn_by(self.event, self.now) if shuffled else None


def find(slug: str) -> Event:
    """The sale of that address, one query; `EventNotFound` for a draft or an unknown one."""
    event = Event.objects.public().filter(slug=slug).first()
    if event is None:
        raise EventNotFound
    return event


def show(event: Event) -> Shown:
    """The sale now. The stock of one that is over is not asked for."""
    now = timezone.now()
    over = event.status == Event.Status.CLOSED or event.closes_at <= now
    known = None if over else catalogue.get(event.pk)
    return Shown(event, now, known.remaining if known else None)


def milliseconds(moment: datetime) -> int:
    """A moment in milliseconds since 1970, as scripts have it."""
    return round(moment.timestamp() * 1000)
