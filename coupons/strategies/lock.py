"""A lock in Redis: a token, a time to live that can be extended, a number that fences, and a line that is woken.

It bars nobody from the database. A holder that hangs for longer than the time to live comes back without knowing that
it holds nothing any more; only the number, which whoever writes must compare, keeps its writes out. (M. Kleppmann, *How
to do distributed locking*, 2016.)
"""

import secrets
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

from redis.exceptions import RedisError

from coupons.stock.ways import HotWayStore, free_channel
from events.errors import Unavailable

TTL = 2000  # milliseconds; all that a holder waits for is bounded to less
EXTEND_AFTER = 0.5  # seconds that a holder has had it before it asks for more time


class Held:
    """A lock that was taken."""

    def __init__(self, ways: HotWayStore, event_id: int, of: str, token: str, fence: int) -> None:
        self.fence = fence
        self._ways, self._event_id, self._of, self._token = ways, event_id, of, token
        self._since = time.monotonic()

    def keep(self) -> bool:
        """Make sure that it lasts for what is to be done next: more time, if some has gone. False: it is lost."""
        if time.monotonic() - self._since < EXTEND_AFTER:
            return True
        with self._ways.breaker(self._event_id):
            kept = self._ways.extend(self._event_id, token=self._token, ttl=TTL, of=self._of)
        self._since = time.monotonic()
        return kept


@contextmanager
def locked(ways: HotWayStore, event_id: int, *, epoch: int, patience: float, of: str = "") -> Iterator[Held]:
    """The lock of an event, or `of` somebody in it, waited for in line for `patience` seconds at most.

    Raises `Unavailable` where that is not enough, or where the event is not loaded in that epoch.
    """
    token = secrets.token_urlsafe(9)
    fence = _take(ways, event_id, of, epoch=epoch, token=token, patience=patience)
    try:
        yield Held(ways, event_id, of, token, fence)
    finally:
        with suppress(RedisError):  # it goes by itself
            ways.unlock(event_id, token=token, of=of)


def _take(ways: HotWayStore, event_id: int, of: str, *, epoch: int, token: str, patience: float) -> int:
    def ask(**place: Any) -> tuple[int, int]:
        with ways.breaker(event_id):
            fence, left = ways.lock(event_id, epoch=epoch, token=token, ttl=TTL, of=of, **place)
        if fence < 0:
            raise Unavailable  # a load is due or under way, or this process has not heard of it
        return fence, left

    fence, _ = ask()
    if fence:
        return fence
    deadline = time.monotonic() + patience
    with closing(ways.client.pubsub(ignore_subscribe_messages=True)) as channel:  # type: ignore[no-untyped-call]
        channel.subscribe(free_channel(event_id, of, token))
        channel.get_message(timeout=patience)  # it is heard from here on: nobody is woken without hearing it
        woken = False
        try:
            while True:
                fence, left = ask(place=token, woken=woken)
                wait = deadline - time.monotonic()
                if fence:
                    return fence
                if wait <= 0:
                    raise Unavailable
                # Who holds it may have died: then nobody wakes us, and it is free when its time is over.
                woken = _heard(channel, min(wait, left / 1000 + 0.001))
        finally:
            if not fence:
                with suppress(RedisError):
                    ways.leave_line(event_id, place=token, of=of)


def _heard(channel: Any, seconds: float) -> bool:
    return channel.get_message(timeout=seconds) is not None
