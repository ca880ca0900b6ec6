"""What the host of this machine leaves to it.

A shared host takes time away, which Linux counts as stolen, and lets its other guests run on the other half of a core,
which shows nowhere but in how long the same work takes: on the machine of docs/performance.md up to twice as long, for
tenths of a second or for seconds on end.
"""

import os
import time
from collections.abc import Sequence
from typing import Any

import psutil

UNDISTURBED = 0.01  # of the machine's time, at most, that was stolen in an undisturbed while
TURNS = 100_000  # of a loop: 4 ms on a core of 2023 that nobody else is on


class Host:
    """Times the same work on some of the machine's cores, again and again."""

    def __init__(self, cores: Sequence[int]) -> None:
        self._cores = cores
        self.quickest = float("inf")  # so far

    def seconds_of_work(self) -> float:
        """Processor time that the work takes now, on all the cores together. For a moment when they are idle."""
        seconds = sum(self._on(core) for core in self._cores)
        self.quickest = min(self.quickest, seconds)
        return seconds

    def _on(self, core: int) -> float:
        if not hasattr(os, "sched_setaffinity"):
            return _work()
        ours = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {core})
        try:
            return _work()
        finally:
            os.sched_setaffinity(0, ours)


def _work() -> float:
    started = time.thread_time()
    for _ in range(TURNS):
        pass
    return time.thread_time() - started


def stolen_since(before: Any) -> float:
    """The share of all cores that was stolen since these `psutil.cpu_times`; 0 where the system does not tell."""
    after = psutil.cpu_times()
    passed = sum(after[:8]) - sum(before[:8])  # those of a guest within this one are in the first ones already
    return float((getattr(after, "steal", 0.0) - getattr(before, "steal", 0.0)) / passed) if passed else 0.0
