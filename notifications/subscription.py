"""What is published to users (`notifications.live`), as it reaches those who are connected to this process.

One subscription serves the process, while there is anybody to be told. What is published while it is broken is lost to
it; when it is back, every visit is told so, and asks anew for what it may have missed.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import orjson
import structlog
from django.conf import settings
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from notifications.live import CHANNEL
from notifications.sockets import Frame, Visit, written

log = structlog.get_logger(__name__)

QUIET = 5.0  # seconds without a word, after which Redis is asked for one
CONNECTED_WITHIN = 2.0  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between attempts


class TooManySockets(Exception):  # noqa: N818 - a limit, not an error
    """The user has `LIVE_SOCKETS_PER_USER` open here already."""

    code = "rate_limited"
    detail = "You have too many pages open that are kept up to date."


class Subscription:
    """The users who are connected, and their visits. For one event loop."""

    def __init__(self) -> None:
        self._visits: dict[int, set[Visit]] = {}
        self._listening: asyncio.Task[None] | None = None

    def add(self, user_id: int, visit: Visit) -> None:
        """Let the visit hear what the user is told; `TooManySockets` where they have enough."""
        visits = self._visits.setdefault(user_id, set())
        if len(visits) >= settings.LIVE_SOCKETS_PER_USER and visit not in visits:
            raise TooManySockets
        visits.add(visit)
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())

    def remove(self, user_id: int, visit: Visit) -> None:
        """Let it hear no more."""
        visits = self._visits.get(user_id, set())
        visits.discard(visit)
        if not visits:
            self._visits.pop(user_id, None)
        if not self._visits and self._listening is not None:
            self._listening.cancel()
            self._listening = None

    async def _listen(self) -> None:
        """Hear what is published, whatever becomes of Redis."""
        pause, lost = FIRST_PAUSE, False
        while True:
            redis = Redis.from_url(
                settings.CACHE_URL,
                socket_connect_timeout=CONNECTED_WITHIN,
                socket_timeout=CONNECTED_WITHIN,
                retry=Retry(NoBackoff(), 0),  # it would hide that something was missed
            )
            try:
                async with redis, redis.pubsub() as channel:
                    await channel.subscribe(CHANNEL)
                    async for heard in self._words(channel):
                        if heard["type"] == "message":
                            self._pass_on(heard["data"])
                        elif heard["type"] == "subscribe":
                            if lost:
                                log.info("subscription_back")
                            pause, lost = FIRST_PAUSE, False
                            self._resume()
            except Exception as error:  # nobody would begin to listen again
                if not lost:
                    unforeseen = not isinstance(error, RedisError | OSError)
                    log.warning("subscription_lost", error=type(error).__name__, exc_info=unforeseen)
                lost = True
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - so that not all processes come at once
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _words(self, channel: PubSub) -> AsyncIterator[dict[str, Any]]:
        """What Redis says; it raises when there is nothing to be heard any more, not even an answer."""
        asked = False
        while True:
            heard = await channel.get_message(timeout=QUIET)
            if heard is None:
                if asked:
                    raise TimeoutError
                await channel.ping()
            else:
                yield heard
            asked = heard is None

    def _pass_on(self, published: bytes) -> None:
        try:
            self._tell(orjson.loads(published))
        except Exception:  # one that cannot be passed on must not cost the ones to come
            log.exception("frames_not_passed_on")

    def _tell(self, frames: Iterable[tuple[int, Frame]]) -> None:
        for user_id, frame in frames:
            visits = self._visits.get(user_id)
            if visits:
                message = written(frame)
                for visit in list(visits):
                    visit.hear(frame, message)

    def _resume(self) -> None:
        for visit in list(self._all()):
            visit.resume()

    def _all(self) -> Iterator[Visit]:
        for visits in self._visits.values():
            yield from visits
