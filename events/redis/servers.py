"""The clients of this process, one for each patience, and what stands on them."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from django.conf import settings
from redis import RedisCluster
from redis.exceptions import RedisError

from events.redis import in_loop
from events.redis.breaker import Breaker, BreakerOpen
from events.redis.client import Client, connect
from events.redis.in_loop import LoopClient
from events.redis.script import is_outage

T = TypeVar("T")

_kept: dict[Any, Any] = {}


class NotAsked(BreakerOpen, RedisError):  # noqa: N818 - as `BreakerOpen`
    """Redis did not answer the calls before this one."""


class Hot:
    """The client of the request path, and the breakers around it: a Redis that hangs is not waited for each time.

    One breaker a process; on a cluster one an event, for its nodes go one by one.
    """

    def __init__(self, client: Client, *, loop_client: LoopClient | None = None, timeout: float = 0.0) -> None:
        self.client = client
        self._loop_client = loop_client
        self._timeout = timeout
        self._breaks_by_event = isinstance(client, RedisCluster)
        self._breakers: dict[int, Breaker] = {}

    @property
    def answers_in_loop(self) -> bool:
        """Whether `ask` may be used. Otherwise `client` is asked from threads."""
        return self._loop_client is not None

    async def ask(self, event_id: int, call: Callable[[LoopClient], Awaitable[T]]) -> T:
        """Ask from the event loop of this process, with the patience of `client` and behind the event's breaker."""
        if self._loop_client is None:
            raise RuntimeError("this Redis is asked from threads")
        with self.breaker(event_id):
            return await in_loop.within(self._timeout, call(self._loop_client))

    def breaker(self, event_id: int) -> Breaker:
        """The breaker that the event's calls go through. While it is open they raise `NotAsked`."""
        shard = event_id if self._breaks_by_event else 0
        found = self._breakers.get(shard)
        if found is None:
            name = f"stock of event {shard}" if shard else "stock"
            found = self._breakers.setdefault(shard, Breaker(name, counts=is_outage, refusal=NotAsked))
        return found


def hot() -> Hot:
    """For requests: it gives up after `STOCK_REDIS_TIMEOUT` seconds."""
    return kept(Hot, _connect_hot)


def _connect_hot() -> Hot:
    url, timeout = settings.STOCK_REDIS_URL, settings.STOCK_REDIS_TIMEOUT
    return Hot(connect(url, timeout=timeout), loop_client=in_loop.connect(url), timeout=timeout)


def bulk() -> Client:
    """For workers and commands: it gives up after `STOCK_REDIS_BULK_TIMEOUT` seconds."""
    return kept(Client, lambda: connect(settings.STOCK_REDIS_URL, timeout=settings.STOCK_REDIS_BULK_TIMEOUT))


def kept(kind: Any, make: Callable[[], T]) -> T:
    """The one of its kind in this process; made the first time it is asked for."""
    if kind not in _kept:
        # Two threads that both make the first one have made one too many, and both go on with the same.
        _kept.setdefault(kind, make())
    return cast("T", _kept[kind])
