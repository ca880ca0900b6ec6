"""Group commit: questions that come while a call is under way go together into the next one.

So the cost of a round trip is shared by as many as are in a hurry at the moment, and one who comes alone waits for
nobody. (D. DeWitt et al., *Implementation techniques for main memory database systems*, 1984, section 5.)
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from events.errors import Unavailable

APART = 0.001  # seconds between the beginnings of two calls for one key

Q = TypeVar("Q")
A = TypeVar("A")


class Grouped(Generic[Q, A]):
    """Asks `call(key, questions)` for the answers, one call a key at a time. For one event loop.

    Calls for a key begin a millisecond apart: a quick server would otherwise be asked for everybody alone, and at half
    load a gate was as busy with that as at its fullest. Who comes alone is asked for at once.
    `at_most` questions go into a call; `waiting` may wait for theirs, and who comes beyond is refused at once: what
    would be answered too late must not take memory, nor time from those who are answered.
    """

    def __init__(
        self, call: Callable[[int, Sequence[Q]], Awaitable[Sequence[A]]], *, at_most: int, waiting: int
    ) -> None:
        self._call = call
        self._at_most = at_most
        self._limit = waiting
        self._queues: dict[int, deque[tuple[Q, asyncio.Future[A]]]] = {}  # a key is in it while a call is under way
        self._calls: set[asyncio.Task[None]] = set()  # the loop itself keeps no hold of them

    def ask(self, key: int, question: Q) -> "asyncio.Future[A]":
        """The answer, or what the call raised, later. `Unavailable` at once where too many wait already."""
        queue = self._queues.get(key)
        if queue is not None and len(queue) >= self._limit:
            raise Unavailable
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        if queue is None:
            self._queues[key] = deque([(question, answer)])
            self._start(key)
        else:
            queue.append((question, answer))
        return answer

    def _start(self, key: int) -> None:
        """Have a call made in the next turn of the loop, if anybody asks: what this one still brings goes along."""
        if not self._queues[key]:
            del self._queues[key]
            return
        call = asyncio.get_running_loop().create_task(self._answer(key))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _answer(self, key: int) -> None:
        group = self._next(key)
        if not group:
            del self._queues[key]
            return
        loop = asyncio.get_running_loop()
        next_at = loop.time() + APART
        try:
            try:
                answers = await self._call(key, [question for question, _ in group])
            finally:
                # Before these are told theirs: the server is at work again while a hundred answers are written.
                if loop.time() < next_at:
                    loop.call_at(next_at, self._start, key)
                else:
                    self._start(key)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told
            for _, waiting in group:
                if not waiting.done():
                    waiting.set_exception(error)
        else:
            for (_, waiting), answer in zip(group, answers, strict=True):
                if not waiting.done():
                    waiting.set_result(answer)

    def _next(self, key: int) -> list[tuple[Q, "asyncio.Future[A]"]]:
        queue = self._queues[key]
        group: list[tuple[Q, asyncio.Future[A]]] = []
        while queue and len(group) < self._at_most:
            one = queue.popleft()
            if not one[1].done():  # who has hung up meanwhile takes nothing
                group.append(one)
        return group
