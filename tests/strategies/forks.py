"""A process that does orders in children of its own: one JSON order a line in, one line with what came of it out.

It is Django, set up and connected to nothing, so that a fork of it costs milliseconds and shares no connection. Run as
`python -m tests.strategies.forks`.
"""

import json
import os
import signal
import sys
import threading
import time
from functools import partial
from typing import Any

import django

django.setup()

from django.db import connection  # noqa: E402 - Django first

from coupons import issuing, services  # noqa: E402
from coupons.stock.store import bulk_store  # noqa: E402
from coupons.strategies import lock  # noqa: E402
from events.errors import Refusal, Unavailable  # noqa: E402
from tests.strategies.points import at  # noqa: E402

WITHIN = 30.0  # seconds that a caller asks again


def claim(event_id: int, user: int, key: str = "") -> dict[str, Any]:
    """Claim, and ask again as long as one is told to: what came of it, and when the last asking began and ended."""
    deadline = time.monotonic() + WITHIN
    while True:
        told: dict[str, Any] = {"user": user, "began": time.monotonic()}
        try:
            result = services.claim(event_id=event_id, user_id=user, idempotency_key=key)
            return {**told, "ended": time.monotonic(), "code": result.result, "sequence": result.claim.id.sequence}
        except Unavailable:
            if time.monotonic() > deadline:
                return {**told, "code": "unavailable"}
            time.sleep(0.005)
        except Refusal as refusal:
            return {**told, "code": refusal.code}
        finally:
            connection.close()


def rush(event_id: int, users: list[int], pipe: int) -> None:
    """One process of a crowd: each user in a thread, all at once."""
    start, told = threading.Barrier(len(users)), []

    def run(user: int) -> None:
        start.wait()
        told.append(claim(event_id, user))

    threads = [threading.Thread(target=run, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(pipe, json.dumps(told).encode() + b"\n")


def die(event_id: int, *, step: str, user: int, work: str) -> None:
    """Claim, or drain, and be killed at the step."""
    lock.TTL = 200  # those behind need not wait long for a lock that nobody gives back
    with at(step, partial(os.kill, os.getpid(), signal.SIGKILL)):
        if work == "drain":
            issuing.issue_claims(event_id, bulk_store())
        else:
            services.claim(event_id=event_id, user_id=user, idempotency_key="key")


def main() -> None:
    """Take orders until there are none. Answers have a way of their own: logs go to the standard output, too."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        order = json.loads(line)
        if "groups" in order:
            reader, writer = os.pipe()
            children = [fork(partial(rush, order["event"], users, writer)) for users in order["groups"]]
            os.close(writer)
            with os.fdopen(reader) as pipe:
                answer: Any = [one for told in pipe for one in json.loads(told)]
            for child in children:
                os.waitpid(child, 0)
        else:
            event_id = order.pop("event")
            _, status = os.waitpid(fork(partial(die, event_id, **order)), 0)
            answer = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def fork(work: Any) -> int:
    """The id of a child that does it and ends."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


main()
