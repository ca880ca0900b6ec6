"""Redis asked from an event loop, with no thread in between: half the work of a call, and no wait for the interpreter.

For a Redis that is one server. One behind Sentinels and a cluster are asked from threads: what was mended in redis-py's
clients for those (`client`, `cluster`) would have to be mended in its asynchronous ones once more.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from redis import asyncio as aio
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import SSLConnection, UnixDomainSocketConnection
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.typing import EncodableT

from events.redis.client import parse, patience
from events.redis.line import Command, Line

T = TypeVar("T")

_CONNECTIONS = {SSLConnection: aio.SSLConnection, UnixDomainSocketConnection: aio.UnixDomainSocketConnection}
LOOKS = 3  # turns of the loop: the answer is read from the socket, and its reader woken


class LoopClient:
    """Asks one Redis from one event loop, over one line, and sends nothing twice.

    It connects with the first command, and waits for ever: whoever asks it says how long (`within`).
    """

    def __init__(self, connection: Callable[[], AbstractConnection]) -> None:
        self.connection = connection
        self._line: Line | None = None
        self._connecting = asyncio.Lock()

    async def ask(self, *command: EncodableT) -> Any:
        """The answer to a command. Raises `RedisError`."""
        (answer,) = await self.ask_all([command])
        return answer

    async def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to several, which are sent at once. Raises the `RedisError` that came for one of them."""
        line = self._line
        if line is None or not line.is_open:
            line = await self._connected()
        calls = line.ask(*commands)
        try:
            return [await calls[0]] if len(calls) == 1 else await asyncio.gather(*calls)
        except asyncio.CancelledError:
            line.retire()
            raise

    async def _connected(self) -> Line:
        async with self._connecting:
            if self._line is None or not self._line.is_open:
                self._line = await Line.over(self.connection())
            return self._line

    def close(self) -> None:
        """End its line."""
        if self._line is not None:
            self._line.close()


def connect(url: str) -> LoopClient | None:
    """A client for one event loop; None where `url` is not of one server."""
    address = parse(url)
    if address.kind != "server":
        return None
    options = {**patience(None), **address.options, "retry": Retry(NoBackoff(), 0)}
    options.pop("max_connections", None)
    kind = _CONNECTIONS.get(options.pop("connection_class", None), aio.Connection)
    return LoopClient(partial(kind, **options))


async def within(seconds: float, call: Awaitable[T]) -> T:
    """What the call returns, or redis-py's `TimeoutError` if that takes longer; the call is then cancelled.

    Not `asyncio.timeout`: after a turn of the loop that took longer than `seconds`, in which a thousand requests were
    read, that gives up a call whose answer lies in the socket, and a busy gate takes a quick Redis for a dead one.
    """
    patience = _Patience(asyncio.current_task())
    timer = asyncio.get_running_loop().call_later(seconds, patience.look, LOOKS)
    try:
        return await call
    except asyncio.CancelledError:
        if patience.task is None or not patience.given_up:
            raise
        patience.task.uncancel()
        raise RedisTimeoutError(f"no answer within {seconds} s") from None
    finally:
        patience.task = None
        timer.cancel()


class _Patience:
    """Whose call is cancelled when it has ended.

    A class and not a function within a function: that one would hold itself and the task, and each call would be left
    to the garbage collector, which then held up a rush for tens of milliseconds a few times a minute.
    """

    __slots__ = ("given_up", "task")

    def __init__(self, task: "asyncio.Task[Any] | None") -> None:
        self.task = task  # None once the call has ended
        self.given_up = False

    def look(self, looks: int) -> None:
        """Cancel the call, unless it ends in so many more turns of the loop."""
        if self.task is None:
            return
        if looks:
            asyncio.get_running_loop().call_soon(self.look, looks - 1)
        else:
            self.given_up = True
            self.task.cancel()
