"""The waiting room while Redis is lost: the order is kept as far as the database knows it, and nobody can join.

People are let in by their rank as time goes by; there are no passes, and so nobody's runs out. Each answer is a few
queries, one of which counts those who stand before: a process gives them to few at a time, and they come seldom.
"""

import random
from datetime import datetime
from typing import TYPE_CHECKING

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from events import stock
from events.errors import Closed, NoTicket, SoldOut, Unavailable
from events.models import Event, Ticket
from events.places import Places
from events.waiting_room.views import TicketView

if TYPE_CHECKING:
    from events.catalogue import KnownEvent

SECONDS = (5, 15)  # between two visits: spread, for all who wait lost Redis at the same moment


def _seconds() -> float:
    return random.uniform(*SECONDS)  # noqa: S311 - no secret


# Apart from those of claims: a crowd that asks where it stands must not keep out those whose turn it is. And fewer: a
# thread of the process must be left to refuse the rest.
PLACES = max(1, settings.DATABASE_CLAIMS // 2)
place = Places(PLACES, retry_after=_seconds).one


def is_admitted(event: Event, user_id: int, now: datetime) -> bool:
    """Whether it is the user's turn. Who has no ticket stands behind all who have one."""
    return _ahead(event, _ticket(event.pk, user_id)) < _let_in(event, now)


def visit(known: "KnownEvent", user_id: int, *, joins: bool) -> TicketView:
    """Where the user stands; `Unavailable` for who would join. A sale that is still on Redis is moved first.

    It may wait for the database: the caller holds a `place`.
    """
    now = timezone.now()
    event = _moved(known)
    if known.is_over(now):
        raise Closed(opens_at=event.opens_at)
    claimed = stock.keeper().claimed_already(event, user_id)
    if claimed is not None:
        raise claimed
    units = event.quantity - event.issued
    if units < 1 and not event.may_return:
        raise SoldOut
    ticket = _ticket(event.pk, user_id)
    if ticket is None:
        if joins:
            raise Unavailable(
                "Nobody can join the queue right now: it is being put back. Ask again.", retry_after=_seconds()
            )
        raise NoTicket
    ahead, let_in, poll_after_ms = _ahead(event, ticket), _let_in(event, now), int(_seconds() * 1000)
    if ahead < let_in and units > 0 and event.opens_at <= now and event.status == Event.Status.PUBLISHED:
        return TicketView(ticket.number, "admitted", 0, 0, event.closes_at, poll_after_ms, 1.0)
    is_known = event.entry_order != Event.EntryOrder.SHUFFLE or event.opens_at <= now
    left = max(0, ahead - let_in)
    return TicketView(
        number=ticket.number,
        status="waiting",
        ahead=left if is_known else None,
        eta_seconds=-(-left // event.admission_rate) if is_known and units > 0 else None,
        pass_expires_at=None,
        poll_after_ms=poll_after_ms,
        odds=round(min(1.0, units / (left + 1)), 3) if is_known and units > 0 else None,
    )


def leave(known: "KnownEvent", user_id: int) -> None:
    """Give the place up. As `visit`."""
    forget(_moved(known).pk, user_id)


def forget(event_id: int, user_id: int) -> None:
    """The ticket has been used, or is given up: it does not come back with Redis."""
    Ticket.objects.filter(event_id=event_id, user_id=user_id, gone_at=None).update(gone_at=timezone.now())


def _moved(known: "KnownEvent") -> Event:
    """The event, which sells from the database from here on, if it did not before."""
    if not known.sells_from_database:
        stock.keeper().fall_back(known.id, epoch=known.epoch)
    event = Event.objects.get(pk=known.id)
    if event.stock_mode != Event.StockMode.DATABASE:
        raise Unavailable  # Redis is back, and this process has not heard of it: it will within a second
    return event


def _ticket(event_id: int, user_id: int) -> Ticket | None:
    return Ticket.objects.filter(event_id=event_id, user_id=user_id, gone_at=None).first()


def _ahead(event: Event, ticket: Ticket | None) -> int:
    """People before the ticket, in all lanes, gone since or not; all of them for None."""
    tickets = Ticket.objects.filter(Q(gone_at=None) | Q(gone_at__gte=_since(event)), event=event)
    if ticket is not None:
        tickets = tickets.filter(Q(lane__lt=ticket.lane) | Q(lane=ticket.lane, rank__lt=ticket.rank))
    return tickets.count()


def _let_in(event: Event, now: datetime) -> int:
    """How many of those in line may have claimed by now."""
    seconds = max(0.0, (now - max(event.opens_at, _since(event))).total_seconds())
    return event.max_active + int(event.admission_rate * seconds)


def _since(event: Event) -> datetime:
    """When the sale went on from here."""
    return event.fell_back_at or event.updated_at
