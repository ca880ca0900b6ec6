"""The clients of this process, one for each patience, and what stands on them."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from django.conf import settings
from redis import RedisCluster
from redis.exceptions import RedisError

from events.redis.breaker import Breaker, BreakerOpen
from events.redis.client import Client, connect
from events.redis.script import is_outage

T = TypeVar("T")

_kept: dict[Any, Any] = {}


class NotAsked(BreakerOpen, RedisError):  # noqa: N818 - as `BreakerOpen`
    """Redis did not answer the calls before this one."""


class Hot:
    """The client of the request path, and the breakers around it: a Redis that hangs is not waited for each time.

    One breaker a process; on a cluster one an event, for its nodes go one by one.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._breakers: dict[int, Breaker] = {}

    def breaker(self, event_id: int) -> Breaker:
        """The breaker that the event's calls go through. While it is open they raise `NotAsked`."""
        shard = event_id if isinstance(self.client, RedisCluster) else 0
        found = self._breakers.get(shard)
        if found is None:
            name = f"stock of event {shard}" if shard else "stock"
            found = self._breakers.setdefault(shard, Breaker(name, counts=is_outage, refusal=NotAsked))
        return found


def hot() -> Hot:
    """For requests: it gives up after `STOCK_REDIS_TIMEOUT` seconds."""
    return kept(Hot, lambda: Hot(connect(settings.STOCK_REDIS_URL, timeout=settings.STOCK_REDIS_TIMEOUT)))


def bulk() -> Client:
    """For workers and commands: it gives up after `STOCK_REDIS_BULK_TIMEOUT` seconds."""
    return kept(Client, lambda: connect(settings.STOCK_REDIS_URL, timeout=settings.STOCK_REDIS_BULK_TIMEOUT))


def kept(kind: Any, make: Callable[[], T]) -> T:
    """The one of its kind in this process; made the first time it is asked for."""
    if kind not in _kept:
        # Two threads that both make the first one have made one too many, and both go on with the same.
        _kept.setdefault(kind, make())
    return cast("T", _kept[kind])
