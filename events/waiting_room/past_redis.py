"""The waiting room while Redis is lost: the order is kept as far as the database knows it, and nobody can join.

People are let in by their rank as time goes by; there are no passes, and so nobody's runs out. Each answer is two
queries, for a sale without Redis is answered to few at a time.
"""

from datetime import datetime
from typing import TYPE_CHECKING

from django.db.models import Q
from django.utils import timezone

from events.errors import Closed, NoTicket, SoldOut, Unavailable
from events.models import Event, Ticket
from events.waiting_room.views import TicketView

if TYPE_CHECKING:
    from events.catalogue import KnownEvent

POLL_AFTER_MS = 10_000


def is_admitted(event: Event, user_id: int, now: datetime) -> bool:
    """Whether it is the user's turn. Who has no ticket stands behind all who have one."""
    return _ahead(event, _ticket(event.pk, user_id)) < _let_in(event, now)


def visit(known: "KnownEvent", user_id: int, *, joins: bool) -> TicketView:
    """Where the user stands; `Unavailable` for who would join."""
    now = timezone.now()
    event = Event.objects.get(pk=known.id)
    if known.is_over(now):
        raise Closed(opens_at=event.opens_at)
    if event.issued >= event.quantity:
        raise SoldOut
    ticket = _ticket(event.pk, user_id)
    if ticket is None:
        if joins:
            raise Unavailable("Nobody can join the queue right now: it is being put back. Ask again.", retry_after=10)
        raise NoTicket
    ahead, let_in = _ahead(event, ticket), _let_in(event, now)
    if ahead < let_in and event.opens_at <= now and event.status == Event.Status.PUBLISHED:
        return TicketView(ticket.number, "admitted", 0, 0, event.closes_at, POLL_AFTER_MS, 1.0)
    left = ahead - let_in
    return TicketView(
        number=ticket.number,
        status="waiting",
        ahead=max(0, left),
        eta_seconds=max(0, -(-left // event.admission_rate)),
        pass_expires_at=None,
        poll_after_ms=POLL_AFTER_MS,
        odds=round(min(1.0, (event.quantity - event.issued) / (max(0, left) + 1)), 3),
    )


def leave(event: "KnownEvent", user_id: int) -> None:
    """Give the place up."""
    Ticket.objects.filter(event_id=event.id, user_id=user_id).delete()


def _ticket(event_id: int, user_id: int) -> Ticket | None:
    return Ticket.objects.filter(event_id=event_id, user_id=user_id).first()


def _ahead(event: Event, ticket: Ticket | None) -> int:
    """People before the ticket, in all lanes; all of them for None."""
    tickets = Ticket.objects.filter(event=event)
    if ticket is not None:
        tickets = tickets.filter(Q(lane__lt=ticket.lane) | Q(lane=ticket.lane, rank__lt=ticket.rank))
    return tickets.count()


def _let_in(event: Event, now: datetime) -> int:
    """How many of those in line may have claimed by now."""
    since = max(event.opens_at, event.fell_back_at or event.updated_at)
    seconds = max(0.0, (now - since).total_seconds())
    return event.max_active + int(event.admission_rate * seconds)
