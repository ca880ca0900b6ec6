"""Counts that Prometheus is told a few times a second."""

import asyncio

from prometheus_client import CollectorRegistry, Counter

from config import tally
from config.tally import Tally


def counter(name: str) -> Counter:
    return Counter(name, name, registry=CollectorRegistry())


def told(one: Counter) -> float:
    (metric,) = one.collect()
    return float(metric.samples[0].value)


def test_what_was_counted_is_told_a_moment_later_and_once(monkeypatch) -> None:
    monkeypatch.setattr(tally, "EVERY", 0.01)
    one, other = counter("one"), counter("other")

    async def scenario() -> None:
        counts = Tally()
        for _ in range(2):  # a second time after the first was told
            for _ in range(3):
                counts.add(one)
            counts.add(other)
            before = told(one)
            while told(one) == before:
                await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(scenario(), 5))
    assert (told(one), told(other)) == (6, 2)


def test_nothing_is_left_untold_at_the_end() -> None:
    one = counter("one")

    async def scenario() -> None:
        counts = Tally()
        counts.add(one)
        counts.tell()
        counts.tell()

    asyncio.run(scenario())
    assert told(one) == 1
