"""The circuit breaker: when it opens, whom it lets probe, and that it never makes one call wait for another."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from events.redis.breaker import Breaker, BreakerOpen, State, breakers


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Away(Exception):  # noqa: N818 - the server is
    pass


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("test", counts=lambda error: isinstance(error, Away), clock=clock)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(Away), breaker:
            raise Away


def test_it_opens_after_three_failures_in_a_row_and_refuses_at_once(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 2)
    assert breaker.state() is State.CLOSED
    fail(breaker)
    assert breaker.state() is State.OPEN
    clock.now += 0.25
    with pytest.raises(BreakerOpen) as refused:
        breaker.admit()
    assert refused.value.retry_after == pytest.approx(0.75)


def test_a_success_between_them_begins_the_count_anew(breaker: Breaker) -> None:
    fail(breaker, 2)
    with breaker:
        pass
    fail(breaker, 2)
    assert breaker.state() is State.CLOSED


def test_an_answer_that_says_no_is_an_answer(breaker: Breaker) -> None:
    fail(breaker, 2)
    with pytest.raises(ValueError, match="no"), breaker:
        raise ValueError("no")
    fail(breaker, 2)
    assert breaker.state() is State.CLOSED


def test_after_the_pause_one_call_probes_and_the_others_are_still_refused(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 1
    breaker.admit()
    assert breaker.state() is State.HALF_OPEN
    with pytest.raises(BreakerOpen):
        breaker.admit()
    breaker.succeeded()
    assert breaker.state() is State.CLOSED
    breaker.admit()


def test_a_probe_that_fails_opens_it_for_another_pause(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 1
    fail(breaker)
    assert breaker.state() is State.OPEN
    clock.now += 0.5
    with pytest.raises(BreakerOpen):
        breaker.admit()
    clock.now += 0.5
    breaker.admit()


def test_a_probe_that_never_ends_is_followed_by_another(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 1
    breaker.admit()  # and its thread is gone
    clock.now += 1
    breaker.admit()


def test_calls_that_began_before_it_opened_do_not_put_the_probe_off(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 0.9
    breaker.failed()
    clock.now += 0.1
    breaker.admit()


def test_it_knows_how_long_nothing_was_answered(breaker: Breaker, clock: Clock) -> None:
    assert breaker.failing_for() == 0
    fail(breaker)
    clock.now += 7
    fail(breaker, 2)
    clock.now += 5
    assert breaker.failing_for() == 12
    breaker.succeeded()
    assert breaker.failing_for() == 0


def test_twenty_threads_at_the_end_of_the_pause_send_one_probe(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 1
    start = threading.Barrier(20)

    def ask(_: int) -> bool:
        start.wait()
        try:
            breaker.admit()
        except BreakerOpen:
            return False
        return True

    with ThreadPoolExecutor(20) as threads:
        assert sum(threads.map(ask, range(20))) == 1


def test_its_lock_is_free_during_a_call(breaker: Breaker) -> None:
    """Ten calls are under way at once: with the lock held during the call, the second would wait for the first."""
    together = threading.Barrier(10, timeout=10)

    def call(_: int) -> None:
        with breaker:
            together.wait()

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(call, range(10)))
    assert breaker.state() is State.CLOSED


def test_with_a_lock_held_during_the_call_that_test_fails() -> None:
    """The negative control: nobody meets anybody."""
    held = threading.Lock()
    together = threading.Barrier(2, timeout=0.2)

    def call(_: int) -> None:
        with held:
            together.wait()

    started = time.monotonic()
    with ThreadPoolExecutor(2) as threads, pytest.raises(threading.BrokenBarrierError):
        list(threads.map(call, range(2)))
    assert time.monotonic() - started < 10


def test_those_of_the_process_are_known_by_name_as_long_as_they_live(breaker: Breaker) -> None:
    other = Breaker("other")
    assert (breakers()["test"], breakers()["other"]) == (breaker, other)
    del other
    assert "other" not in breakers()


def test_what_failed_before_somebody_asked_does_not_count(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 5
    since = clock.now
    clock.now += 5
    assert breaker.failing_for(since=since) == 0, "nothing failed since"
    breaker.failed()
    clock.now += 2
    assert breaker.failing_for(since=since) == 7
    assert breaker.failing_for() == 12
