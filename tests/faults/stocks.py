"""What tests of topologies do with the stocks on them: load, claim, load anew, and rush through a failover."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from coupons.reconciling import reconcile
from coupons.stock.codes import LoadCode, ReserveCode
from coupons.stock.records import LogEntry
from coupons.stock.store import HotStore, StockStore, bulk_store, hot_store
from events.models import Event
from tests.stock_kit import window
from tests.topologies import ClusterOfSix, Node, Topology, until

EVENTS = range(1, 13)  # their slots lie on all three primaries of the cluster


def put_stocks(store: StockStore, units: int = 10, **changes: int) -> None:
    """Load the stocks of all `EVENTS`; `changes` are those of the window."""
    for event_id in EVENTS:
        code, stock = store.load(event_id, epoch=1, available=units, sequence=0, window=window(**changes), claimants=[])
        assert (code, stock) == (LoadCode.LOADED, units)


def joined_hot_store() -> HotStore:
    """The store of the request path, once it knows its cluster: that may take longer than requests wait."""
    store = hot_store()
    until(store.client.ping, "it joins")
    return store


def claim(store: StockStore, event_id: int, *users: int, epoch: int = 1) -> list[ReserveCode]:
    """Have each of the users claim."""
    reply = store.reserve(event_id, epoch=epoch, claims=[(user, "") for user in users])
    return [one.code for one in reply.reservations]


def reload(store: StockStore, event_id: int) -> LoadCode:
    """As the reconciler does where the stock was loaded on another server: a new epoch, behind all numbers given."""
    sequence = store.snapshot(event_id).sequence
    code, _ = store.load(event_id, epoch=2, available=1000, sequence=sequence, window=window(), claimants=[])
    return code


class Rush:
    """Threads that claim through the store of the request path, user after user, until they are told to end.

    Who got no answer comes again when all others have been there.
    """

    def __init__(self, event: Event, users: list[int], *, threads: int = 4) -> None:
        self.event_id = event.id
        self.epoch = event.epoch  # as the catalogue of a process would know it
        self.accepted: list[tuple[int, int, int]] = []  # user, epoch, sequence
        self.refused: list[ReserveCode] = []
        self.unanswered: list[type[Exception]] = []
        self.longest = 0.0
        self._users = deque(users)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._claim) for _ in range(threads)]

    def _claim(self) -> None:
        while not self._ended.wait(0.002):
            try:
                user = self._users.popleft()
            except IndexError:
                return
            started = time.monotonic()
            try:
                reply = hot_store().reserve(self.event_id, epoch=self.epoch, claims=[(user, "")])
            except RedisError as error:
                self.unanswered.append(type(error))
                self._users.append(user)
            else:
                (one,) = reply.reservations
                if one.code is ReserveCode.ACCEPTED:
                    self.accepted.append((user, one.epoch, one.sequence))
                else:
                    self.refused.append(one.code)
            self.longest = max(self.longest, time.monotonic() - started)

    def __enter__(self) -> "Rush":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for_claims(self, number: int) -> None:
        """Until so many more are accepted."""
        wanted = len(self.accepted) + number
        until(lambda: len(self.accepted) >= wanted, f"{number} more claims are accepted")

    def reload(self) -> None:
        """What the reconciler does, and then the catalogue."""
        with suppress(RedisError):  # the failover may still be under way: it comes again
            reconcile(self.event_id, bulk_store())
        self.epoch = Event.objects.get(pk=self.event_id).epoch


def forget_scripts(topology: Topology) -> None:
    """On all servers."""
    for node in topology.nodes if isinstance(topology, ClusterOfSix) else topology.servers:
        node.client.script_flush()


def follows(node: Node, port: int) -> bool:
    """Whether the node is a replica of the one at the port."""
    state: Any = node.client.info("replication")
    return state["role"] == "slave" and int(state["master_port"]) == port


def all_of_log(store: StockStore, event_id: int) -> Iterator[list[LogEntry]]:
    """The whole claim log, page by page."""
    after = None
    while page := store.read_log(event_id, after=after, count=1000):
        yield page
        after = page[-1].entry_id
