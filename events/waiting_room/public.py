"""What everyone may know of a waiting room, as a part of the state document."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from events.models import Event
from events.waiting_room import shuffle

if TYPE_CHECKING:
    from events.catalogue import KnownEvent  # which reads the rooms


def queue(event: "KnownEvent", now: datetime) -> dict[str, Any]:
    """The numbers by which whoever waits can tell how far it is, and what a shuffle is checked by."""
    shuffled = event.entry_order == Event.EntryOrder.SHUFFLE
    return {
        "serving": event.numbers.serving if event.numbers else 0,
        "waiting": event.numbers.waiting if event.numbers else 0,
        "order": event.entry_order,
        **(drawn_by(event, now) if shuffled else {"seed_hash": None, "seed": None}),
    }


def drawn_by(event: "KnownEvent | Event", now: datetime) -> dict[str, str | None]:
    """What a shuffle is checked by: the hash of its seed, and from the opening on the seed itself."""
    return {"seed_hash": shuffle.seed_hash(event.seed), "seed": event.seed if now >= event.opens_at else None}
