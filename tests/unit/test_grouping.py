"""Group commit: who comes while a call is under way goes into the next, and nobody takes a neighbour along."""

import asyncio
import threading
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from events import grouping
from events.errors import Unavailable
from events.grouping import Grouped


class Server:
    """Doubles numbers, when it is let go; notes what it was asked in each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, list[int]]] = []
        self.gate = threading.Event()

    def double(self, key: int, questions: Sequence[int]) -> list[int]:
        self.calls.append((key, list(questions)))
        assert self.gate.wait(5)
        if 0 in questions:
            raise ZeroDivisionError
        return [2 * one for one in questions]


class InLoop:
    """Doubles numbers on the event loop, when it is let go; notes the questions of each call."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.gate = asyncio.Event()

    async def double(self, _: int, questions: Sequence[int]) -> list[int]:
        self.calls.append(list(questions))
        await self.gate.wait()
        return [2 * one for one in questions]


def grouped(server: Server, **bounds: int) -> Grouped[int, int]:
    async def double(key: int, questions: Sequence[int]) -> list[int]:
        return await asyncio.to_thread(server.double, key, questions)

    return Grouped(double, **{"at_most": 100, "waiting": 100, **bounds})


async def asked(*answers: "asyncio.Future[int]") -> list["asyncio.Future[int]"]:
    """The answers of questions that are under way."""
    await asyncio.sleep(0)  # a turn of the loop: the call is begun
    return list(answers)


def test_who_comes_during_a_call_goes_into_the_next_and_who_comes_together_goes_together() -> None:
    server = Server()

    async def scenario() -> list[int]:
        ask = grouped(server).ask
        first = await asked(ask(7, 1), ask(7, 2))
        then = await asked(ask(7, 3), ask(7, 4), ask(7, 5))
        server.gate.set()
        return await asyncio.gather(*first, *then)

    assert asyncio.run(scenario()) == [2, 4, 6, 8, 10]
    assert server.calls == [(7, [1, 2]), (7, [3, 4, 5])]


def test_the_next_call_has_begun_when_those_before_it_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "APART", 0.0)
    server = InLoop()

    async def scenario() -> list[list[int]]:
        ask = Grouped(server.double, at_most=100, waiting=100).ask
        (first,) = await asked(ask(7, 1))
        (second,) = await asked(ask(7, 2))
        server.gate.set()
        await first
        seen = list(server.calls)
        assert await second == 4
        return seen

    assert asyncio.run(scenario()) == [[1], [2]]


def test_who_comes_in_the_turn_that_brings_an_answer_goes_along_in_the_next_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grouping, "APART", 0.0)
    server = InLoop()

    async def scenario() -> None:
        ask = Grouped(server.double, at_most=100, waiting=100).ask
        answers = await asked(ask(7, 1))
        answers += await asked(ask(7, 2))
        server.gate.set()
        asyncio.get_running_loop().call_soon(lambda: answers.append(ask(7, 3)))  # behind what the answer wakes
        await answers[1]
        assert await answers[2] == 6

    asyncio.run(scenario())
    assert server.calls == [[1], [2, 3]]


def test_each_key_has_its_own_call() -> None:
    server = Server()

    async def scenario() -> list[int]:
        ask = grouped(server).ask
        tasks = await asked(ask(7, 1), ask(8, 2))
        server.gate.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(scenario()) == [2, 4]
    assert sorted(server.calls) == [(7, [1]), (8, [2])]


def test_a_call_takes_so_many_and_no_more() -> None:
    server = Server()

    async def scenario() -> list[int]:
        ask = grouped(server, at_most=2).ask
        tasks = await asked(*(ask(7, number) for number in range(1, 6)))
        server.gate.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(scenario()) == [2, 4, 6, 8, 10]
    assert [questions for _, questions in server.calls] == [[1, 2], [3, 4], [5]]


def test_beyond_the_bound_one_is_refused_at_once_and_the_others_are_answered() -> None:
    server = Server()

    async def scenario() -> list[int]:
        ask = grouped(server, waiting=3).ask
        under_way = await asked(ask(7, 1))
        waiting = await asked(*(ask(7, number) for number in range(2, 5)))
        for number in (5, 6):
            with pytest.raises(Unavailable):
                ask(7, number)
        server.gate.set()
        return await asyncio.gather(*under_way, *waiting)

    assert asyncio.run(scenario()) == [2, 4, 6, 8]


def test_a_call_that_fails_is_told_to_those_in_it_and_to_nobody_else() -> None:
    server = Server()

    async def scenario() -> list[int | BaseException]:
        ask = grouped(server).ask
        failing = await asked(ask(7, 0), ask(7, 1))
        then = await asked(ask(7, 2))
        server.gate.set()
        return await asyncio.gather(*failing, *then, return_exceptions=True)

    *failed, answer = asyncio.run(scenario())
    assert [type(error) for error in failed] == [ZeroDivisionError, ZeroDivisionError]
    assert answer == 4


def test_who_has_hung_up_is_not_asked_for() -> None:
    server = Server()

    async def scenario() -> list[int]:
        ask = grouped(server).ask
        first = await asked(ask(7, 1))
        gone, stays = await asked(ask(7, 2), ask(7, 3))
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        server.gate.set()
        return await asyncio.gather(*first, stays)

    assert asyncio.run(scenario()) == [2, 6]
    assert server.calls == [(7, [1]), (7, [3])]


def test_what_cannot_even_be_started_is_told_too() -> None:
    def refuse(*_: Any) -> "asyncio.Future[list[int]]":
        raise Unavailable

    async def scenario() -> None:
        await Grouped(refuse, at_most=1, waiting=10).ask(7, 1)

    with pytest.raises(Unavailable):
        asyncio.run(scenario())


def test_nothing_is_begun_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "APART", 0.0)

    async def double(_: int, questions: Sequence[int]) -> list[int]:
        return [2 * one for one in questions]

    begun: list[Any] = []

    def note(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> "asyncio.Task[Any]":
        begun.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def scenario() -> int:
        asyncio.get_running_loop().set_task_factory(note)
        assert await Grouped(double, at_most=100, waiting=100).ask(7, 1) == 2
        return len(begun)

    assert asyncio.run(scenario()) == 1, "the one call, and none after it"


def between_calls(monkeypatch: pytest.MonkeyPatch, apart: float) -> list[float]:
    """Seconds between the calls of three who ask one after another, each as soon as the one before is answered."""
    monkeypatch.setattr(grouping, "APART", apart)
    began: list[float] = []

    async def double(_: int, questions: Sequence[int]) -> list[int]:
        began.append(asyncio.get_running_loop().time())
        return [2 * one for one in questions]

    async def scenario() -> None:
        one = Grouped(double, at_most=1, waiting=10)
        for number in range(3):
            assert await one.ask(7, number) == 2 * number

    asyncio.run(scenario())
    return [later - earlier for earlier, later in pairwise(began)]


def test_calls_for_a_key_begin_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert min(between_calls(monkeypatch, 0.1)) >= 0.1


def test_without_that_they_begin_as_soon_as_they_can(monkeypatch: pytest.MonkeyPatch) -> None:
    assert min(between_calls(monkeypatch, 0.0)) < 0.1
