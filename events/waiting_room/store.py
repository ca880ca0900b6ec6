"""The waiting rooms in Redis: one typed method for each script and each read.

Errors of Redis (`redis.exceptions.RedisError`) pass through: what they mean is the caller's to say.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from redis.exceptions import RedisError

from events.redis import servers
from events.redis.client import Client
from events.redis.script import Script
from events.redis.servers import Hot
from events.waiting_room import keys
from events.waiting_room.records import LogEntry, Numbers, Reply, Visit

PAGE = 1000  # people of one answer


@dataclass(frozen=True, slots=True)
class Rules:
    """How people are let in, as operators set it."""

    rate: int  # a second
    max_active: int  # passes at once
    pass_ttl: int  # seconds
    grace: int  # seconds
    seed: str = ""  # of the shuffle; "" for first come, first served
    may_return: bool = False  # whether units that are gone may come back


class RoomStore:
    """The waiting rooms of all events on one Redis. Safe to share between threads, as its client is."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._visit = Script.of(client, "events.waiting_room", "visit")
        self._restore = Script.of(client, "events.waiting_room", "restore")

    def visit(self, event_id: int, rules: Rules, visits: Sequence[Visit]) -> Reply:
        """Answer the visitors, and move the line on. One round trip."""
        return Reply.parse(self._visit(*self._visiting(event_id, rules, visits)))

    @staticmethod
    def _visiting(event_id: int, rules: Rules, visits: Sequence[Visit]) -> tuple[list[str], list[str | int]]:
        """What `visit.lua` is called with."""
        arguments: list[str | int] = [
            rules.rate,
            rules.max_active,
            rules.pass_ttl * 1000,
            rules.grace * 1000,
            rules.seed,
            int(rules.may_return),
        ]
        left = []
        for visit in visits:
            arguments += visit
            left.append(keys.left(event_id, visit.user_id))
        return [*keys.of_visit(event_id), *left], arguments

    def restore(
        self, event_id: int, *, number: int, opened: bool, again: bool, tickets: Iterable[tuple[int, int, int, int]]
    ) -> int:
        """Put tickets back, (user, lane, number, rank) each; how many were not there. Lane -1 for one that is gone.

        `again`: the sale was loaded before.
        """
        arguments = [part for ticket in tickets for part in ticket]
        (restored,) = self._restore(keys=keys.own(event_id)[:7], args=[number, int(opened), int(again), *arguments])
        return int(restored)

    def numbers(self, event_ids: Sequence[int]) -> dict[int, Numbers]:
        """What everyone may know of each of the rooms, in one round trip; those that cannot be read are left out."""
        pipe = self.client.pipeline(transaction=False)
        for event_id in event_ids:
            pipe.hget(keys.room(event_id), "serving")
            for line in keys.lines(event_id):
                pipe.zcard(line)
            pipe.zcard(keys.passes(event_id))
        answers = pipe.execute(raise_on_error=False)
        parts = zip(event_ids, answers[0::4], answers[1::4], answers[2::4], answers[3::4], strict=True)
        return {
            event_id: Numbers(int(serving or 0), first + last, passes)
            for event_id, serving, first, last, passes in parts
            if not any(isinstance(one, RedisError) for one in (serving, first, last, passes))
        }

    def ranks(self, event_id: int) -> Iterator[tuple[int, int]]:
        """Number and rank of those who stand in line, in no order."""
        for line in keys.lines(event_id):
            members = iter(self.client.zscan_iter(line, count=PAGE))
            while page := list(islice(members, PAGE)):
                users = [user for user, _ in page]
                tickets: Any = self.client.hmget(keys.tickets(event_id), users)
                for (_, rank), ticket in zip(page, tickets, strict=True):
                    if ticket:  # or it went while we looked
                        yield int(ticket.split(".")[1]), int(rank)

    def damaged(self, event_id: int) -> list[str]:
        """The room's keys that nothing can be read from, for they are of another type than ours. One round trip.

        Where one is of those that say who stands where, the others say nothing without it, and are named as well.
        """
        ours = keys.types(event_id)
        pipe = self.client.pipeline(transaction=False)
        for key in ours:
            pipe.type(key)
        found = zip(ours.items(), pipe.execute(), strict=True)
        damaged = [key for (key, kind), is_of in found if is_of not in (kind, "none")]
        tickets = keys.of_tickets(event_id)
        return list(dict.fromkeys([*damaged, *tickets])) if set(damaged) & set(tickets) else damaged

    def read_log(self, event_id: int, *, start: int = 0, count: int) -> list[LogEntry]:
        """The oldest `count` things that the database is to know, after the first `start`."""
        entries: Any = self.client.lrange(keys.log(event_id), start, start + count - 1)
        return [LogEntry.parse(entry) for entry in entries]

    def settle_log(self, event_id: int, count: int) -> None:
        """Take the oldest `count` out of the log: the database knows them."""
        self.client.ltrim(keys.log(event_id), count, -1)


class HotRoomStore(RoomStore):
    """The store of the request path: behind the circuit breaker of the event's stock, which is on the same server."""

    def __init__(self, hot: Hot) -> None:
        super().__init__(hot.client)
        self.breaker = hot.breaker
        self._hot = hot

    def visit(self, event_id: int, rules: Rules, visits: Sequence[Visit]) -> Reply:
        """As `RoomStore.visit`."""
        with self.breaker(event_id):
            return super().visit(event_id, rules, visits)

    async def avisit(self, event_id: int, rules: Rules, visits: Sequence[Visit]) -> Reply:
        """As `visit`, for the event loop."""
        question = self._visiting(event_id, rules, visits)
        return Reply.parse(await self._hot.ask(event_id, lambda client: self._visit.acall(client, *question)))


def hot_room_store() -> HotRoomStore:
    """The store of the request path: it gives up after `STOCK_REDIS_TIMEOUT` and never retries."""
    return servers.kept(HotRoomStore, lambda: HotRoomStore(servers.hot()))


def bulk_room_store() -> RoomStore:
    """The store of workers and commands: the same rooms, with time for a thousand tickets at once."""
    return servers.kept(RoomStore, lambda: RoomStore(servers.bulk()))
