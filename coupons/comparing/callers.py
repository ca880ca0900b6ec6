"""The callers of a comparison: threads of several processes, each of which claims for one user after another."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from django.db import connection

from coupons import services
from coupons.comparing.servers import end_sessions
from events.errors import Refusal, Unavailable

GIVE_UP_AFTER = 60.0  # seconds that a user asks again
PAUSE = 0.02  # seconds before a user asks again who was told to


class Told(NamedTuple):
    """What a user was told in the end. Moments by the monotonic clock, which all processes of a machine share."""

    code: str  # accepted, or that of the refusal
    sequence: int  # 0 for a refusal
    came: float
    asked: float  # for the last time
    answered: float
    again: int  # how often the user was told to ask again before


def rush(event_id: int, users: Sequence[int], *, threads: int, begin: float) -> list[Told]:
    """Claim for each of the users, so many at once, from a moment on. One process of the crowd."""
    waiting, told = deque(users), []
    services.known_event(event_id)  # the process knows the events before the crowd comes, as one that serves does

    def work() -> None:
        time.sleep(max(0.0, begin - time.monotonic()))
        with suppress(IndexError):  # nobody is left
            while True:
                told.append(_claim(event_id, waiting.popleft()))

    crowd = [threading.Thread(target=work) for _ in range(threads)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    end_sessions()
    return told


def _claim(event_id: int, user: int) -> Told:
    came, again = time.monotonic(), 0
    while True:
        asked = time.monotonic()
        try:
            result = services.claim(event_id=event_id, user_id=user)
        except Unavailable as refusal:
            if asked - came > GIVE_UP_AFTER:
                return Told(refusal.code, 0, came, asked, time.monotonic(), again)
            again += 1
            time.sleep(PAUSE)
        except Refusal as refusal:
            return Told(refusal.code, 0, came, asked, time.monotonic(), again)
        else:
            return Told(result.result, result.claim.id.sequence, came, asked, time.monotonic(), again)
        finally:
            connection.close()  # back to the pool, as at the end of a request
