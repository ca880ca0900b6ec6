"""What the benchmarks share: which core is whose, and how to wait and to look on."""

import os
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from events.models import Event

SERVER_CORE, OTHER_CORE = 0, 1  # the server has one to itself; load and Redis share the other

Spawn = Callable[..., subprocess.Popen[bytes]]


@contextmanager
def two_cores(redis: int) -> Iterator[None]:
    """Put this process, which is the load, and Redis on the core that is not the server's."""
    cores = os.sched_getaffinity(0)
    if len(cores) > 1:
        os.sched_setaffinity(0, {OTHER_CORE})
        os.sched_setaffinity(redis, {OTHER_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        os.sched_setaffinity(redis, cores)


@contextmanager
def before_all_others(processes: Sequence[int]) -> Iterator[bool]:
    """Have what else the machine does wait for these processes, by real-time priority; whether that is allowed.

    Linux still leaves a twentieth of each core to the others, so nobody starves.
    """
    if sys.platform != "linux":
        yield False
        return
    threads = [int(task.name) for process in processes for task in Path(f"/proc/{process}/task").iterdir()]
    policies: dict[int, int] = {}
    is_allowed = True
    try:
        try:
            for thread in threads:
                with suppress(ProcessLookupError):  # some threads live for a moment only
                    policy = os.sched_getscheduler(thread)
                    os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(1))
                    policies[thread] = policy
        except PermissionError:
            is_allowed = False
        yield is_allowed
    finally:
        for thread, policy in policies.items():
            with suppress(ProcessLookupError):
                os.sched_setscheduler(thread, policy, os.sched_param(0))


def when(condition: Callable[[], bool], *, within: float = 120) -> float:
    """The moment (seconds of `perf_counter`) at which it is so."""
    deadline = time.perf_counter() + within
    while not condition():
        assert time.perf_counter() < deadline, "the worker did not come to it"
        time.sleep(0.005)
    return time.perf_counter()


def issued(event: Event) -> int:
    """How many coupons of the event there are."""
    return Event.objects.values_list("issued", flat=True).get(pk=event.id)


class Lookout(ABC):
    """A context manager that looks at something from a thread, again and again."""

    every: float  # seconds

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name=type(self).__name__)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._stop.wait(self.every):
            self.look()

    @abstractmethod
    def look(self) -> None:
        """Look, and note what is seen."""
