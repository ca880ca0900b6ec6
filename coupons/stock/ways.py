"""What the strategies without a claim log of their own ask of Redis: a queue, a set of holders, a lock.

As in `store`, errors of Redis pass through.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from coupons.stock import keys
from coupons.stock.records import Reply, Reservation
from coupons.stock.store import CHUNK
from events.redis import servers
from events.redis.client import Client
from events.redis.script import Script


class Seen(NamedTuple):
    """What a look without a script found. `epoch` 0: no stock is loaded."""

    epoch: int
    stock: int
    status: str
    opens_ms: int
    closes_ms: int
    holds: bool  # whether the user has a unit
    holders: int


class Taken(NamedTuple):
    """What came of an attempt to take a unit without a script."""

    new: bool  # whether the user had none before
    level: int  # of a set the holders, of a counter the units left; after this one
    number: int


class WayStore:
    """The commands of the plainer strategies, on one Redis. Safe to share between threads, as its client is."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._push = Script.of(client, "coupons.stock", "push")
        self._lock = Script.of(client, "coupons.stock", "lock")
        self._unlock = Script.of(client, "coupons.stock", "unlock")
        self._extend = Script.of(client, "coupons.stock", "extend")

    def push(self, event_id: int, *, epoch: int, user_id: int, request: str, sold_out: bool) -> Reply:
        """Queue a claim, unless all are issued. One round trip."""
        names = [keys.state(event_id), keys.claimants(event_id), keys.queue(event_id)]
        drained, nudge, answer = self._push(keys=names, args=[epoch, user_id, request, int(sold_out)])
        return Reply(0, 0, drained, bool(nudge), [Reservation.parse(answer)])

    def look(self, event_id: int, user_id: int) -> Seen:
        """How the sale stands, and whether the user holds a unit. One round trip, and not one moment."""
        pipe = self.client.pipeline(transaction=False)
        pipe.hmget(keys.state(event_id), ["epoch", "stock", "status", "opens", "closes"])
        pipe.sismember(keys.holders(event_id), str(user_id))
        pipe.scard(keys.holders(event_id))
        (epoch, stock, status, opens, closes), holds, holders = pipe.execute()
        return Seen(
            int(epoch or 0), int(stock or 0), status or "", int(opens or 0), int(closes or 0), bool(holds), holders
        )

    def add(self, event_id: int, user_id: int) -> Taken:
        """Make the user a holder: SADD, and SCARD again. One round trip, and not one moment."""
        pipe = self.client.pipeline(transaction=False)
        pipe.sadd(keys.holders(event_id), user_id)
        pipe.scard(keys.holders(event_id))
        pipe.hincrby(keys.state(event_id), "sequence", 1)
        new, holders, number = pipe.execute()
        return Taken(bool(new), holders, number)

    def remove(self, event_id: int, user_ids: Iterable[int]) -> None:
        """They are holders no more: SREM."""
        self.client.srem(keys.holders(event_id), *user_ids)

    def count_down(self, event_id: int, user_id: int) -> Taken:
        """Make the user a holder, and take a unit from the counter: DECR, here of a hash's field."""
        pipe = self.client.pipeline(transaction=False)
        pipe.sadd(keys.holders(event_id), user_id)
        pipe.hincrby(keys.state(event_id), "stock", -1)
        pipe.hincrby(keys.state(event_id), "sequence", 1)
        new, stock, number = pipe.execute()
        return Taken(bool(new), stock, number)

    def count_up(self, event_id: int) -> None:
        """Give a unit back to the counter: INCR."""
        self.client.hincrby(keys.state(event_id), "stock", 1)

    def hold(self, event_id: int, user_ids: Iterable[int]) -> None:
        """They are holders: SADD, a thousand at a time."""
        ids = list(user_ids)
        pipe = self.client.pipeline(transaction=False)
        for first in range(0, len(ids), CHUNK):
            pipe.sadd(keys.holders(event_id), *ids[first : first + CHUNK])
        pipe.execute()

    def forget_holders(self, event_id: int) -> None:
        """Nobody holds anything."""
        self.client.delete(keys.holders(event_id))

    def holders(self, event_id: int) -> Iterator[list[int]]:
        """All holders, in chunks. One who comes or goes meanwhile may be in it or not."""
        cursor = 0
        page: Any
        while True:
            cursor, page = self.client.sscan(keys.holders(event_id), cursor, count=CHUNK)
            if page:
                yield [int(user) for user in page]
            if cursor == 0:
                return

    def hold_among(self, event_id: int, user_ids: list[int]) -> set[int]:
        """Which of the users are holders."""
        answers: Any = self.client.smismember(keys.holders(event_id), [str(user) for user in user_ids])
        return {user for user, holds in zip(user_ids, answers, strict=True) if holds}

    def lock(
        self, event_id: int, *, epoch: int, token: str, ttl: int, of: str = "", place: str = "", woken: bool = False
    ) -> tuple[int, int]:
        """Take a lock: the fence, 1 or more, and for how many milliseconds; see `lock.lua` for the rest."""
        names = [keys.state(event_id), keys.lock(event_id, of), keys.waiting(event_id, of)]
        fence, left = self._lock(keys=names, args=[epoch, token, ttl, place, int(woken)])
        return int(fence), int(left)

    def unlock(self, event_id: int, *, token: str, of: str = "") -> bool:
        """Give it back, and wake the next; whether it was the caller's still."""
        names = [keys.lock(event_id, of), keys.waiting(event_id, of)]
        return bool(self._unlock(keys=names, args=[token, free_channel(event_id, of, "")]))

    def extend(self, event_id: int, *, token: str, ttl: int, of: str = "") -> bool:
        """Keep it for `ttl` milliseconds from now on; whether it was the caller's still."""
        return bool(self._extend(keys=[keys.lock(event_id, of)], args=[token, ttl]))

    def leave_line(self, event_id: int, *, place: str, of: str = "") -> None:
        """Wait for it no more."""
        self.client.lrem(keys.waiting(event_id, of), 0, place)


def free_channel(event_id: int, of: str, place: str) -> str:
    """The channel that one who waits for a lock listens to."""
    return f"{keys.waiting(event_id, of)}:free:{place}"


class HotWayStore(WayStore):
    """The same for the request path, behind the circuit breakers that the stock has."""

    def __init__(self, hot: servers.Hot) -> None:
        super().__init__(hot.client)
        self.breaker = hot.breaker


def hot_ways() -> HotWayStore:
    """For requests: it gives up after `STOCK_REDIS_TIMEOUT` and never retries."""
    return servers.kept(HotWayStore, lambda: HotWayStore(servers.hot()))


def bulk_ways() -> WayStore:
    """For workers and commands."""
    return servers.kept(WayStore, lambda: WayStore(servers.bulk()))
