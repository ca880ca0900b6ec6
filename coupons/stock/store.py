"""The stock in Redis: one typed method for each script and each read.

Errors of Redis (`redis.exceptions.RedisError`) pass through: what they mean is the caller's to say.
"""

import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, repeat
from typing import Any, Literal, TypeVar

import structlog
from redis import exceptions

from coupons.stock import keys
from coupons.stock.codes import AdjustCode, LoadCode
from coupons.stock.records import (
    HeldClaim,
    IssuedCoupon,
    LogEntry,
    Reply,
    Snapshot,
    Standing,
    Window,
)
from events.redis import servers
from events.redis.client import Client
from events.redis.line import Command
from events.redis.script import Script, is_outage
from events.redis.servers import Hot
from events.waiting_room import keys as room_keys

log = structlog.get_logger(__name__)

CHUNK = 1000  # claims that one command carries
T = TypeVar("T")
# Who claims, the digest of the Idempotency-Key ("" for none), and how many units where it is not one.
Asked = tuple[int, str] | tuple[int, str, int]

Back = Literal["log", "owner", "none"]


class StockStore:
    """The stock of all events on one Redis. Safe to share between threads, as its client is."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._reserve = Script.of(client, "coupons.stock", "reserve")
        self._settle = Script.of(client, "coupons.stock", "settle")
        self._release = Script.of(client, "coupons.stock", "release")
        self._load = Script.of(client, "coupons.stock", "load")
        self._snapshot = Script.of(client, "coupons.stock", "snapshot")
        self._adjust = Script.of(client, "coupons.stock", "adjust")
        self._take = Script.of(client, "coupons.stock", "take")

    def reserve(self, event_id: int, *, epoch: int, claims: Sequence[Asked]) -> Reply:
        """Take the units of each of `claims`, all of them or none. One round trip."""
        return Reply.parse(self._reserve(*self._reserving(event_id, epoch, claims)))

    def _reserving(self, event_id: int, epoch: int, claims: Sequence[Asked]) -> tuple[list[str], list[str | int]]:
        """What `reserve.lua` is called with."""
        arguments: list[str | int] = [epoch]
        for asked in claims:
            arguments += asked if len(asked) == 3 else (*asked, 1)  # noqa: PLR2004
        bucket = keys.bucket(event_id, "")
        buckets = [f"{bucket}{asked[0]}" for asked in claims]
        return [*self._keys(event_id), *room_keys.of_claim(event_id), *buckets], arguments

    def settle(
        self,
        event_id: int,
        *,
        epoch: int,
        drained: int,
        entries: Iterable[str],
        issued: Iterable[tuple[LogEntry, IssuedCoupon]] = (),
    ) -> int:
        """Take drained entries out of the claim log; the number that were still there.

        `issued` are those among them that were written just now: for a minute at least their owners are told so from
        here (`standing`).
        """
        state, _, log = self._keys(event_id)
        # Of a claim of several units the database tells: all its coupons are asked for at once.
        alone = ((entry, one) for entry, one in issued if entry.units == 1)
        noted = [part for entry, one in alone for part in (_noted(entry.entry_id, entry.user_id), str(one))]
        return int(
            self._settle(
                keys=[state, log, keys.issued(event_id, _minute())],
                args=[epoch, drained, keys.ISSUED_TTL, len(noted), *noted, *entries],
            )
        )

    def release(self, event_id: int, entries: Iterable[LogEntry], *, back: Back = "log") -> int:
        """Undo claims, and give back the units that were in the log, or that their `owner` had; how many were there."""
        removed = 0
        for chunk in _chunks(entries):
            named = [part for entry in chunk for part in (entry.entry_id, entry.user_id)]
            removed += int(self._release(keys=self._keys(event_id), args=[back, *named]))
        return removed

    def load(
        self,
        event_id: int,
        *,
        epoch: int,
        available: int,
        sequence: int,
        window: Window,
        claimants: Iterable[tuple[int, Sequence[HeldClaim]]],
    ) -> tuple[LoadCode, int]:
        """Build the stock; the code and the units in it. The caller holds the drain lock: one load at a time."""
        loading = keys.loading(event_id, secrets.token_hex(4))
        for chunk in _chunks(claimants):
            pipe = self.client.pipeline(transaction=False)
            pipe.hset(loading, mapping={user_id: ";".join(map(str, held)) for user_id, held in chunk})
            pipe.expire(loading, keys.LOADING_TTL)
            pipe.execute()
        code, stock = self._load(
            keys=[*self._keys(event_id), loading], args=[epoch, available, sequence, *window.fields()]
        )
        return LoadCode(code), stock

    def unload(self, event_id: int) -> None:
        """Take the stock down: claims find nothing loaded, and polls ask the database. Log and claimants stay."""
        self.client.delete(keys.state(event_id), *_issued_lately(event_id))

    def retire(self, event_id: int) -> None:
        """Let the keys of a closed and drained event go after a while."""
        pipe = self.client.pipeline(transaction=False)
        for key in (*self._keys(event_id), *_of_other_ways(event_id), *room_keys.own(event_id)):
            pipe.expire(key, keys.RETIRED_TTL, nx=True)
        pipe.execute()

    def is_retired(self, event_id: int) -> bool:
        """Whether the event's keys are on their way out."""
        return int(self.client.ttl(keys.state(event_id))) >= 0

    def adjust(
        self,
        event_id: int,
        *,
        epoch: int,
        delta: int = 0,
        window: Window | None = None,
        claimants: Iterable[tuple[int, HeldClaim]] = (),
    ) -> tuple[AdjustCode, int]:
        """Change a loaded stock; the code and the units in it afterwards."""
        # A HSET needs a field: without a window the epoch is set to itself.
        fields = window.fields() if window else ["epoch", epoch]
        added = [part for user_id, held in claimants for part in (user_id, str(held))]
        code, stock = self._adjust(keys=self._keys(event_id), args=[epoch, delta, len(fields), *fields, *added])
        return AdjustCode(code), stock

    def damaged(self, event_id: int) -> list[str]:
        """The event's keys that are of another type than ours: nothing can be read from them. One round trip."""
        pipe = self.client.pipeline(transaction=False)
        names = [*self._keys(event_id), *_of_other_ways(event_id)]
        for key in names:
            pipe.type(key)
        types = zip(names, pipe.execute(), ("hash", "hash", "stream", "list", "set"), strict=True)
        return [key for key, kind, ours in types if kind not in (ours, "none")]

    def remove(self, names: Iterable[str]) -> None:
        """Remove keys that are `damaged`."""
        for key in names:
            self.client.delete(key)

    def snapshot(self, event_id: int) -> Snapshot:
        """Everything about the stock at one moment."""
        return Snapshot(*self._snapshot(keys=[*self._keys(event_id), keys.queue(event_id)], args=[]))

    def snapshots(self, event_ids: Sequence[int]) -> dict[int, Snapshot | None]:
        """`snapshot` of several events, each at its own moment; None for one whose keys are not ours to read.

        One round trip to a server, two where it does not know the script. On a cluster the events are left out whose
        node is away; raises where nobody answers.
        """
        answers = self._snapshot_each(event_ids, "EVALSHA", self._snapshot.sha)
        if any(isinstance(answer, exceptions.NoScriptError) for answer in answers):
            answers = self._snapshot_each(event_ids, "EVAL", self._snapshot.text)
        return {event_id: answer and Snapshot(*answer) for event_id, answer in _answered(event_ids, answers)}

    def _snapshot_each(self, event_ids: Sequence[int], command: str, script: str) -> list[Any]:
        pipe = self.client.pipeline(transaction=False)
        for event_id in event_ids:
            pipe.execute_command(command, script, 4, *self._keys(event_id), keys.queue(event_id))
        return pipe.execute(raise_on_error=False)

    def backlogs(self, event_ids: Sequence[int]) -> dict[int, int]:
        """How many claims each event's log and queue hold, in one round trip; 0 for one that is not ours to read."""
        pipe = self.client.pipeline(transaction=False)
        for event_id in event_ids:
            pipe.xlen(keys.log(event_id))
            pipe.llen(keys.queue(event_id))
        lengths: dict[int, int] = {}
        both = [event_id for event_id in event_ids for _ in range(2)]
        for event_id, length in _answered(both, pipe.execute(raise_on_error=False)):
            lengths[event_id] = lengths.get(event_id, 0) + (length or 0)
        return lengths

    def read_log(self, event_id: int, *, after: str | None = None, count: int) -> list[LogEntry]:
        """The oldest `count` entries of the claim log behind the entry `after`. What is queued comes into it first."""
        self.take(event_id, count)
        start = f"({after}" if after else "-"
        entries: Any = self.client.xrange(keys.log(event_id), min=start, count=count)
        return [LogEntry.parse(entry_id, fields) for entry_id, fields in entries]

    def entry(self, event_id: int, entry_id: str) -> LogEntry | None:
        """One entry of the claim log; None where it has left it."""
        entries: Any = self.client.xrange(keys.log(event_id), min=entry_id, max=entry_id)
        return LogEntry.parse(*entries[0]) if entries else None

    def is_whole(self, event_id: int, entries: Sequence[LogEntry]) -> bool:
        """Whether all of the entries, which were read in one piece, are in the claim log still.

        However many they are, two are looked at: a stream knows the last entry that was ever deleted from it.
        """
        first, last = entries[0], entries[-1]
        if any(self.entry(event_id, entry.entry_id) != entry for entry in (first, last)):
            return False
        about: Any = self.client.xinfo_stream(keys.log(event_id))
        epoch, sequence = about["max-deleted-entry-id"].split("-")
        return (int(epoch), int(sequence)) < (first.epoch, first.sequence)

    def take(self, event_id: int, most: int) -> int:
        """Move the oldest claims of the queue into the claim log; how many."""
        return int(self._take(keys=[keys.queue(event_id), keys.log(event_id)], args=[most]))

    def in_log(self, event_id: int, entry_ids: Sequence[str]) -> set[str]:
        """Which of the entries are in the claim log, once what is queued has come into it."""
        while self.take(event_id, CHUNK):
            pass
        pipe = self.client.pipeline(transaction=False)
        for entry_id in entry_ids:
            pipe.xrange(keys.log(event_id), min=entry_id, max=entry_id)
        return {entry_id for entry_id, found in zip(entry_ids, pipe.execute(), strict=True) if found}

    def held_by(self, event_id: int, user_id: int) -> tuple[list[HeldClaim], int, int]:
        """A user's claims, and the loaded epoch and its watermark (0, 0: none loaded). One round trip."""
        held, epoch, drained, _ = self.standing(event_id, user_id)
        return held, epoch, drained

    def standing(self, event_id: int, user_id: int, entry_id: str | None = None) -> Standing:
        """A user's claims, and the coupon of the one that is asked for if it was issued just now. One round trip."""
        (standing,) = self.standings(event_id, [(user_id, entry_id)])
        return standing

    def standings(self, event_id: int, asked: Sequence[tuple[int, str | None]]) -> list[Standing]:
        """`standing` of each of the users and claims, all in one round trip."""
        pipe = self.client.pipeline(transaction=False)
        for command in self._look_up(event_id, asked):
            pipe.execute_command(*command)
        return _standings(pipe.execute())

    @staticmethod
    def _look_up(event_id: int, asked: Sequence[tuple[int, str | None]]) -> list[Command]:
        """What `standings` asks."""
        # The claims first: a watermark read later can only be further on.
        commands: list[Command] = [
            ("HMGET", keys.claimants(event_id), *(str(user_id) for user_id, _ in asked)),
            ("HMGET", keys.state(event_id), "epoch", "drained"),
        ]
        if any(entry_id for _, entry_id in asked):
            noted = [_noted(entry_id or "", user_id) for user_id, entry_id in asked]
            commands += [("HMGET", key, *noted) for key in _issued_lately(event_id)]
        return commands

    def held_by_each(self, event_id: int, user_ids: Sequence[int]) -> dict[int, list[HeldClaim]]:
        """The claims of each of the users, in one round trip."""
        if not user_ids:
            return {}
        texts: Any = self.client.hmget(keys.claimants(event_id), [str(user) for user in user_ids])
        return {user_id: HeldClaim.parse_all(text) for user_id, text in zip(user_ids, texts, strict=True)}

    def claimants(self, event_id: int) -> Iterator[list[tuple[int, list[HeldClaim]]]]:
        """All claimants, in chunks. One who comes or goes meanwhile may be in it or not."""
        cursor = 0
        page: Any
        while True:
            cursor, page = self.client.hscan(keys.claimants(event_id), cursor, count=CHUNK)
            if page:
                yield [(int(user), HeldClaim.parse_all(text)) for user, text in page.items()]
            if cursor == 0:
                return

    @staticmethod
    def _keys(event_id: int) -> list[str]:
        return [keys.state(event_id), keys.claimants(event_id), keys.log(event_id)]


def _standings(answers: list[Any]) -> list[Standing]:
    texts, (epoch, drained), *noted = answers
    coupons = zip(*noted, strict=True) if noted else repeat(())
    return [
        Standing(
            HeldClaim.parse_all(text),
            int(epoch or 0),
            int(drained or 0),
            next((IssuedCoupon.parse(one) for one in coupon if one), None),
        )
        for text, coupon in zip(texts, coupons, strict=False)
    ]


def _answered(event_ids: Sequence[int], answers: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Each event with its answer in a pipeline, None where its keys are not what they should be.

    Without those whose server is away; raises where none of them answered.
    """
    outage = None
    told = False
    for event_id, answer in zip(event_ids, answers, strict=True):
        if isinstance(answer, Exception) and is_outage(answer):
            outage = answer
            continue
        told = True
        if isinstance(answer, Exception):
            log.warning("stock_unreadable", event_id=event_id, error=str(answer))
            yield event_id, None
        else:
            yield event_id, answer
    if outage is not None and not told:
        raise outage


def _of_other_ways(event_id: int) -> list[str]:
    """The keys that only some strategies have."""
    return [keys.queue(event_id), keys.holders(event_id)]


def _minute() -> int:
    return int(time.time() // keys.MINUTE)


def _issued_lately(event_id: int) -> list[str]:
    """The keys of this minute and of the one before."""
    now = _minute()
    return [keys.issued(event_id, minute) for minute in (now, now - 1)]


def _noted(entry_id: str, user_id: int) -> str:
    """An issued claim as it is noted. With the user: whoever is taken for a holder of another's claim finds nothing."""
    return f"{entry_id}:{user_id}"


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


class HotStore(StockStore):
    """The store of the request path: behind circuit breakers, so that a Redis that hangs is not waited for each time.

    `reserve`, `release`, `standings`, `in_log` and what is made of them raise `NotAsked` while the event's breaker is
    open. Methods that begin with an `a` are for the event loop.
    """

    def __init__(self, hot: Hot) -> None:
        super().__init__(hot.client)
        self.breaker = hot.breaker
        self._hot = hot

    def reserve(self, event_id: int, *, epoch: int, claims: Sequence[Asked]) -> Reply:
        """As `StockStore.reserve`."""
        with self.breaker(event_id):
            return super().reserve(event_id, epoch=epoch, claims=claims)

    async def areserve(self, event_id: int, *, epoch: int, claims: Sequence[Asked]) -> Reply:
        """As `reserve`."""
        question = self._reserving(event_id, epoch, claims)
        return Reply.parse(await self._hot.ask(event_id, lambda client: self._reserve.acall(client, *question)))

    def standings(self, event_id: int, asked: Sequence[tuple[int, str | None]]) -> list[Standing]:
        """As `StockStore.standings`."""
        with self.breaker(event_id):
            return super().standings(event_id, asked)

    async def astandings(self, event_id: int, asked: Sequence[tuple[int, str | None]]) -> list[Standing]:
        """As `standings`."""
        commands = self._look_up(event_id, asked)
        return _standings(await self._hot.ask(event_id, lambda client: client.ask_all(commands)))

    def release(self, event_id: int, entries: Iterable[LogEntry], *, back: Back = "log") -> int:
        """As `StockStore.release`."""
        with self.breaker(event_id):
            return super().release(event_id, entries, back=back)

    def in_log(self, event_id: int, entry_ids: Sequence[str]) -> set[str]:
        """As `StockStore.in_log`."""
        with self.breaker(event_id):
            return super().in_log(event_id, entry_ids)


def hot_store() -> HotStore:
    """The store of the request path: it gives up after `STOCK_REDIS_TIMEOUT` and never retries."""
    return servers.kept(HotStore, lambda: HotStore(servers.hot()))


def bulk_store() -> StockStore:
    """The store of workers and commands: the same stock, with time for a thousand claims at once."""
    return servers.kept(StockStore, lambda: StockStore(servers.bulk()))
