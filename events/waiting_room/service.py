"""What visitors do in a waiting room: join, ask where they stand, leave.

The steps are apart because two lanes take them: Django's views one by one, the gate with the visits of many in one
call of the script.
"""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from redis.exceptions import RedisError

from events import outage, stock
from events.catalogue import KnownEvent, catalogue
from events.errors import Closed, EventNotFound, NoTicket, NoWaitingRoom, RateLimited, SoldOut, Unavailable
from events.models import Event
from events.waiting_room import past_redis
from events.waiting_room.codes import VisitCode
from events.waiting_room.records import Reply, Visit, Visited
from events.waiting_room.store import Rules, hot_room_store
from events.waiting_room.views import TicketView

AT_A_TIME = 500  # people, a second
COME_BACK = 2, 20  # seconds, at least and at most; half as much more or less by chance
JITTER = 0.3  # of the time until the next poll, at most; `visit.lua` reckons with it


def visit(event_id: int, user_id: int, lane: int, act: Literal["join", "ask"]) -> TicketView:
    """Join, or ask where one stands: joining twice is asking. One round trip; raises the `Refusal` that says no."""
    event = with_room(catalogue.get(event_id))
    told = _ask_redis(event, Visit(act, user_id, lane))
    if told is not None:
        return answer(event, *told)
    with past_redis.place():
        return past_redis.visit(event, user_id, joins=act == "join")


def leave(event_id: int, user_id: int, lane: int) -> None:
    """Give the place up, and the pass; nothing where there is none."""
    event = with_room(catalogue.get(event_id))
    told = _ask_redis(event, Visit("leave", user_id, lane))
    if told is not None:
        left(event, told[1])
        return
    with past_redis.place():
        past_redis.leave(event, user_id)


def _ask_redis(event: KnownEvent, one: Visit) -> tuple[Reply, Visited] | None:
    """What the script answers; None where the sale does without Redis."""
    if event.sells_from_database:
        return None
    try:
        return visits(event.id, [one])[0]
    except RedisError as error:
        require_lost(event, error)
        return None


def left(event: KnownEvent, visited: Visited) -> None:
    """Raise `Unavailable` unless the place was given up: a room that is being put back would have it again."""
    if visited.code is not VisitCode.LEFT:
        raise _being_put_back(event)


def with_room(event: KnownEvent | None) -> KnownEvent:
    """The event if it has a waiting room; `EventNotFound` for None, `NoWaitingRoom` for one without."""
    if event is None:
        raise EventNotFound
    if not event.waiting_room:
        raise NoWaitingRoom
    return event


def visits(event_id: int, asked: Sequence[Visit]) -> list[tuple[Reply, Visited]]:
    """Ask the script for many: its answers, each with the whole. One round trip. Raises `RedisError`."""
    reply = hot_room_store().visit(event_id, rules_of(with_room(catalogue.get(event_id))), asked)
    return [(reply, visited) for visited in reply.visitors]


async def avisits(event_id: int, asked: Sequence[Visit]) -> list[tuple[Reply, Visited]]:
    """As `visits`, from the event loop, where events are only looked for in memory."""
    event = catalogue.at_hand(event_id)
    if event is None:
        raise Unavailable
    reply = await hot_room_store().avisit(event_id, rules_of(with_room(event)), asked)
    return [(reply, visited) for visited in reply.visitors]


def rules_of(event: KnownEvent) -> Rules:
    """How people are let in."""
    return Rules(
        rate=event.admission_rate,
        max_active=event.max_active,
        pass_ttl=event.pass_ttl,
        grace=event.grace,
        seed=event.seed if event.entry_order == Event.EntryOrder.SHUFFLE else "",
        may_return=event.may_return,
    )


def require_lost(event: KnownEvent, error: RedisError) -> None:
    """Raise `Unavailable` unless the sale does without Redis from here on: see `outage.is_lost`."""
    if not outage.is_lost(event):
        told = "The queue cannot be reached right now. Your place is kept: ask again."
        raise Unavailable(told, retry_after=_come_back_after(event)) from error


def answer(event: KnownEvent, reply: Reply, visited: Visited) -> TicketView:
    """What the script's answer means to a visitor; raises the `Refusal` where it is one."""
    match visited.code:
        case VisitCode.WAITING:
            known = visited.ahead >= 0
            return TicketView(
                number=visited.number,
                status="waiting",
                ahead=visited.ahead if known else None,
                eta_seconds=-(-visited.eta_ms // 1000) if visited.eta_ms >= 0 else None,
                pass_expires_at=None,
                poll_after_ms=_with_jitter(visited.poll_ms),
                # With nothing left they hang on what others do with what they hold.
                odds=round(min(1.0, reply.stock / (visited.before + 1)), 3) if known and visited.eta_ms >= 0 else None,
            )
        case VisitCode.ADMITTED:
            expires_at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=visited.expires_ms)
            return TicketView(visited.number, "admitted", 0, 0, expires_at, _with_jitter(visited.poll_ms), 1.0)
        case VisitCode.SOLD_OUT:
            raise SoldOut
        case VisitCode.CLOSED:
            raise Closed(opens_at=event.opens_at)
        case VisitCode.RATE_LIMITED:
            raise RateLimited(retry_after=visited.retry_ms / 1000)
        case VisitCode.ALREADY_CLAIMED:
            raise stock.keeper().already_claimed(event.id, visited.claim)
        case VisitCode.NOT_LOADED:
            raise _being_put_back(event)
        case VisitCode.NO_TICKET | VisitCode.LEFT:
            raise NoTicket


def _being_put_back(event: KnownEvent) -> Unavailable:
    told = "The queue is being put back in order. Your place is kept: ask again."
    return Unavailable(told, retry_after=_come_back_after(event))


def _come_back_after(event: KnownEvent) -> float:
    """Seconds after which one who could not be answered comes again: about `AT_A_TIME` a second of those who wait."""
    waiting = event.numbers.waiting if event.numbers is not None else 0
    lowest, highest = COME_BACK
    return min(highest, max(lowest, waiting / AT_A_TIME)) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret


def _with_jitter(milliseconds: int) -> int:
    """Somewhat later, so that those who came at once do not go on coming at once."""
    return int(milliseconds * random.uniform(1, 1 + JITTER))  # noqa: S311 - no secret
