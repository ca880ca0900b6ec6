"""The stock in Redis: one typed method for each script and each read.

Errors of Redis (`redis.exceptions.RedisError`) pass through: what they mean is the caller's to say.
"""

from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from typing import Any

from django_redis import get_redis_connection
from redis import Redis
from redis.commands.core import Script

from coupons.stock import keys
from coupons.stock.codes import AdjustCode, LoadCode
from coupons.stock.records import HeldClaim, LogEntry, Reply, Reservation, Snapshot, Window

CHUNK = 1000  # claimants that one command carries


def _script(client: Redis, name: str) -> Script:
    source = resources.files("coupons.stock").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return client.register_script(source)


class StockStore:
    """The stock of all events on one Redis. Safe to share between threads, as its client is."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self._reserve = _script(client, "reserve")
        self._settle = _script(client, "settle")
        self._release = _script(client, "release")
        self._load = _script(client, "load")
        self._snapshot = _script(client, "snapshot")
        self._adjust = _script(client, "adjust")

    def reserve(self, event_id: int, *, epoch: int, claims: Sequence[tuple[int, str]]) -> Reply:
        """Take a unit for each of `claims`, pairs of user and request digest ("" for none). One round trip."""
        arguments: list[str | int] = [epoch]
        buckets = []
        for user_id, request in claims:
            arguments += (user_id, request)
            buckets.append(keys.bucket(event_id, user_id))
        answer: list[Any] = self._reserve(keys=[*self._keys(event_id), *buckets], args=arguments)
        now_ms, stock, drained, nudge, *answers = answer
        return Reply(now_ms, stock, drained, bool(nudge), [Reservation.parse(one) for one in answers])

    def settle(self, event_id: int, *, epoch: int, drained: int, entries: Iterable[str]) -> int:
        """Take drained entries out of the claim log; the number that were still there."""
        state, _, log = self._keys(event_id)
        return int(self._settle(keys=[state, log], args=[epoch, drained, *entries]))

    def release(self, event_id: int, *, entry_id: str, user_id: int, unit: bool = True) -> bool:
        """Undo a claim, and give its unit back unless it never had one; False where it was not in the log."""
        return bool(self._release(keys=self._keys(event_id), args=[entry_id, user_id, int(unit)]))

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
        loading = keys.loading(event_id)
        self.client.delete(loading)
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
        """Take the stock down: claims find nothing loaded. The claim log and the claimants stay."""
        self.client.delete(keys.state(event_id))

    def retire(self, event_id: int) -> None:
        """Let the keys of a closed and drained event go after a while."""
        pipe = self.client.pipeline(transaction=False)
        for key in self._keys(event_id):
            pipe.expire(key, keys.RETIRED_TTL, nx=True)
        pipe.execute()

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

    def snapshot(self, event_id: int) -> Snapshot:
        """Everything about the stock at one moment."""
        return Snapshot(*self._snapshot(keys=self._keys(event_id), args=[]))

    def snapshots(self, event_ids: Sequence[int]) -> dict[int, Snapshot]:
        """`snapshot` of several events in one round trip, each at its own moment."""
        pipe = self.client.pipeline(transaction=False)
        for event_id in event_ids:
            self._snapshot(keys=self._keys(event_id), args=[], client=pipe)
        return {event_id: Snapshot(*one) for event_id, one in zip(event_ids, pipe.execute(), strict=True)}

    def backlogs(self, event_ids: Sequence[int]) -> dict[int, int]:
        """The length of each event's claim log, in one round trip."""
        pipe = self.client.pipeline(transaction=False)
        for event_id in event_ids:
            pipe.xlen(keys.log(event_id))
        return dict(zip(event_ids, pipe.execute(), strict=True))

    def read_log(self, event_id: int, *, after: str | None = None, count: int) -> list[LogEntry]:
        """The oldest `count` entries of the claim log behind the entry `after`."""
        start = f"({after}" if after else "-"
        entries: Any = self.client.xrange(keys.log(event_id), min=start, count=count)
        return [LogEntry.parse(entry_id, fields) for entry_id, fields in entries]

    def in_log(self, event_id: int, entry_ids: Sequence[str]) -> set[str]:
        """Which of the entries are in the claim log, in one round trip."""
        pipe = self.client.pipeline(transaction=False)
        for entry_id in entry_ids:
            pipe.xrange(keys.log(event_id), min=entry_id, max=entry_id)
        return {entry_id for entry_id, found in zip(entry_ids, pipe.execute(), strict=True) if found}

    def held_by(self, event_id: int, user_id: int) -> tuple[list[HeldClaim], int, int]:
        """A user's claims, and the loaded epoch and its watermark (0, 0: none loaded). One round trip."""
        pipe = self.client.pipeline(transaction=False)
        # The claims first: a watermark read later can only be further on.
        pipe.hget(keys.claimants(event_id), str(user_id))
        pipe.hmget(keys.state(event_id), ["epoch", "drained"])
        text, (epoch, drained) = pipe.execute()
        return HeldClaim.parse_all(text), int(epoch or 0), int(drained or 0)

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


def _chunks(
    claimants: Iterable[tuple[int, Sequence[HeldClaim]]],
) -> Iterator[list[tuple[int, Sequence[HeldClaim]]]]:
    chunk = []
    for one in claimants:
        chunk.append(one)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


_stores: dict[str, StockStore] = {}


def hot_store() -> StockStore:
    """The store of the request path: it gives up after `STOCK_REDIS_TIMEOUT` and never retries."""
    return _store("stock")


def bulk_store() -> StockStore:
    """The store of workers and commands: the same stock, with time for a thousand claims at once."""
    return _store("stock_bulk")


def _store(alias: str) -> StockStore:
    if alias not in _stores:
        _stores[alias] = StockStore(get_redis_connection(alias))
    return _stores[alias]
