"""The bulkhead: no limit while calls are quick, few places once one is slow."""

from contextlib import ExitStack

import pytest

from coupons.bulkhead import Bulkhead
from events.errors import Unavailable


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bulkhead(clock: Clock) -> Bulkhead:
    return Bulkhead(2, slow=0.1, clock=clock)


def enter(bulkhead: Bulkhead, inside: ExitStack, times: int) -> int:
    """How many of so many who ask are let in."""
    entered = 0
    for _ in range(times):
        try:
            inside.enter_context(bulkhead.place())
        except Unavailable:
            continue
        entered += 1
    return entered


def test_quick_calls_are_not_limited(bulkhead: Bulkhead) -> None:
    with ExitStack() as inside:
        assert enter(bulkhead, inside, 20) == 20


def test_with_a_slow_call_inside_there_are_as_many_places_as_were_set(bulkhead: Bulkhead, clock: Clock) -> None:
    with ExitStack() as inside:
        assert enter(bulkhead, inside, 1) == 1
        clock.now += 0.2
        assert enter(bulkhead, inside, 20) == 1


def test_after_a_slow_call_there_are_no_more_until_one_was_quick(bulkhead: Bulkhead, clock: Clock) -> None:
    with bulkhead.place():
        clock.now += 0.2
    with ExitStack() as inside:
        assert enter(bulkhead, inside, 20) == 2
    with ExitStack() as inside:
        assert enter(bulkhead, inside, 20) == 20


def test_a_call_that_fails_leaves_its_place(bulkhead: Bulkhead, clock: Clock) -> None:
    def fail() -> None:
        with bulkhead.place():
            clock.now += 0.2
            raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            fail()
