"""What an operator sees on the page of a sale beside the form: the numbers, and the buttons."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from django.utils import timezone
from django.utils.translation import gettext, gettext_noop
from redis.exceptions import RedisError

from events import services, stock
from events.errors import Unavailable
from events.models import SCRIPT_WAYS, Event
from events.stock import Level
from events.waiting_room.records import Numbers
from events.waiting_room.store import hot_room_store

Status = Event.Status
Mode = Event.StockMode


@dataclass(frozen=True, slots=True)
class Operation:
    """A button on the page of a sale. Its words are in English here, and translated where they are shown."""

    name: str
    label: str
    run: Callable[..., Event]
    done: str
    after: tuple[Event.Status, ...]  # where it is offered
    mode: str = ""  # where it is offered, too; "": in both, and whatever the strategy
    confirm: str = ""  # asked for twice, with these words

    @property
    def plain_label(self) -> str:
        """The label where nothing more is asked."""
        return gettext(self.label).rstrip("…")

    def suits(self, event: Event) -> bool:
        """Whether it is offered for the event as it stands."""
        return event.status in self.after and (not self.mode or (event.needs_redis and self.mode == event.stock_mode))


LIVE = (Status.PUBLISHED, Status.PAUSED)
OPERATIONS = {
    one.name: one
    for one in (
        Operation(
            "publish",
            gettext_noop("Publish"),
            services.publish,
            gettext_noop("The sale is published."),
            (Status.DRAFT,),
        ),
        Operation(
            "pause", gettext_noop("Pause"), services.pause, gettext_noop("The sale is paused."), (Status.PUBLISHED,)
        ),
        Operation(
            "resume", gettext_noop("Resume"), services.resume, gettext_noop("The sale goes on."), (Status.PAUSED,)
        ),
        Operation(
            "sell-from-database",
            gettext_noop("Sell from the database…"),
            partial(services.sell_from, mode=Mode.DATABASE),
            gettext_noop("The sale sells from the database, until you move it back."),
            LIVE,
            mode=Mode.REDIS,
            confirm=gettext_noop(
                "Claims are then written one by one, which is slow: in a rush most people are told to come again. "
                "Where Redis cannot be reached, claims that it had accepted are issued when it is back, as long as "
                "units last. A sale moves by itself when Redis is lost; do it by hand before you take Redis down."
            ),
        ),
        Operation(
            "sell-from-redis",
            gettext_noop("Sell from Redis"),
            partial(services.sell_from, mode=Mode.REDIS),
            gettext_noop("The sale sells from Redis again."),
            LIVE,
            mode=Mode.DATABASE,
        ),
        Operation(
            "close",
            gettext_noop("Close…"),
            services.close,
            gettext_noop("The sale is closed."),
            LIVE,
            confirm=gettext_noop(
                "Closed is final: nobody can claim any more, and the sale can be neither opened again nor changed. "
                "What has been claimed already is still issued."
            ),
        ),
    )
}


PHASES = {
    "draft": gettext_noop("draft"),
    "scheduled": gettext_noop("scheduled"),
    "open": gettext_noop("open"),
    "paused": gettext_noop("paused"),
    "sold_out": gettext_noop("sold out"),
    "closed": gettext_noop("closed"),
}


@dataclass(frozen=True, slots=True)
class Panel:
    """What the page of a sale tells of its stock and its waiting room. What Redis does not say is None."""

    event: Event
    level: Level | None
    room: Numbers | None = None

    @property
    def loaded(self) -> bool:
        """Whether Redis has stock of this sale."""
        return self.level is not None and self.level.epoch > 0

    @property
    def phase(self) -> str:
        """The phase now, or Draft."""
        return phase_of(self.event, self.level)

    @property
    def phase_words(self) -> str:
        """The phase as text."""
        return gettext(PHASES[self.phase])

    @property
    def operations(self) -> list[Operation]:
        """What can be done with the sale as it stands."""
        return [one for one in OPERATIONS.values() if one.suits(self.event)]

    @property
    def left(self) -> int | None:
        """Units left to claim, None where nobody knows."""
        return left_of(self.event, self.level)

    @property
    def bar(self) -> dict[str, str]:
        """The picture: where each part begins and how wide it is, in percent of the quantity."""
        total = self.event.quantity
        issued = self.event.issued * 100 / total
        backlog = self.level.backlog * 100 / total if self.level else 0
        left = (self.left or 0) * 100 / total
        numbers = {"issued": issued, "backlog": backlog, "left": left, "left_at": issued + backlog}
        return {name: f"{number:.2f}" for name, number in numbers.items()}


def phase_of(event: Event, level: Level | None) -> str:
    """The phase as operators see it: a draft has none for visitors."""
    if event.status == Status.DRAFT:
        return "draft"
    return event.phase(now=timezone.now(), remaining=left_of(event, level))


def left_of(event: Event, level: Level | None) -> int | None:
    """Units left to claim, by whichever the sale sells from; None where that does not say."""
    if event.stock_mode == Mode.DATABASE or event.strategy not in SCRIPT_WAYS:
        return event.quantity - event.issued
    return level.stock if level is not None and level.epoch else None


def panel_of(event: Event) -> Panel:
    """What the page of a sale tells, now: two round trips at most."""
    levels = levels_of([event.id]) if event.needs_redis else {}
    room = _room(event.pk) if event.waiting_room and event.status != Status.DRAFT else None
    return Panel(event, None if levels is None else levels.get(event.id), room)


def levels_of(event_ids: Sequence[int]) -> dict[int, Level] | None:
    """The stock of each sale, in one round trip; None where Redis cannot be reached."""
    try:
        return stock.keeper().levels(event_ids)
    except Unavailable:
        return None


def _room(event_id: int) -> Numbers | None:
    try:
        return hot_room_store().numbers([event_id]).get(event_id)
    except RedisError:
        return None
