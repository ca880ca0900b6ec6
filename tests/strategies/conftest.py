"""What the tests of the strategies share: forked processes that claim, or die."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from subprocess import PIPE, Popen
from typing import Any

import pytest
from django.db import transaction

from coupons.locks import take_drain_lock
from events.models import Event
from tests.concurrency.children import environment


class Forks:
    """The process of `tests.strategies.forks`."""

    def __init__(self, process: "Popen[str]") -> None:
        self._process = process

    def rush(self, event: Event, users: list[int], *, processes: int = 4) -> list[dict[str, Any]]:
        """Have each of the users claim at once, from several processes; what each was told."""
        groups = [users[first::processes] for first in range(processes)]
        told: list[dict[str, Any]] = self._order({"event": event.pk, "groups": groups})
        assert {one["user"] for one in told} == set(users)
        return told

    def kill(self, event: Event, step: str, user: int = 0, *, work: str = "claim") -> None:
        """Have a process claim for the user, or drain, and die at the step."""
        ended = self._order({"event": event.pk, "step": step, "user": user, "work": work})
        assert ended == signal.SIGKILL, "it did not come to the step"
        with transaction.atomic():
            take_drain_lock(event.pk)  # what the dead held is let go when its connection is found broken

    def _order(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@pytest.fixture(scope="module")
def process(django_db_setup: None) -> Iterator["Popen[str]"]:
    """One for all tests of a module."""
    command = [sys.executable, "-m", "tests.strategies.forks"]
    with Popen(command, env=environment(), stdin=PIPE, stdout=PIPE, text=True) as child:
        yield child
        child.kill()


@pytest.fixture
def forks(process: "Popen[str]", transactional_db: None) -> Forks:
    return Forks(process)


Sale = Callable[..., Event]
