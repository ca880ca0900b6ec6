"""Telling users at once, over the WebSockets that are open: a message to every gate process, which passes it on.

Best effort by its nature: who is not connected hears nothing. What must not be missed is a row (`Notification`).
"""

from collections.abc import Iterable

from django_redis import get_redis_connection

from notifications.plain import dumps
from notifications.sockets import Frame

CHANNEL = "sc:live"


def publish(frames: Iterable[tuple[int, Frame]]) -> None:
    """Send frames to users, by their ids, in one message. Raises `RedisError`."""
    get_redis_connection("default").publish(CHANNEL, dumps(list(frames)))
