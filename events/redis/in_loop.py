"""Redis asked from an event loop, with no thread in between: half the work of a call, and no wait for the interpreter.

For a Redis that is one server. One behind Sentinels and a cluster are asked from threads: what was mended in redis-py's
clients for those (`client`, `cluster`) would have to be mended in its asynchronous ones once more.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from hiredis import pack_command
from redis import asyncio as aio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.typing import EncodableT

from events.redis.client import MAX_CONNECTIONS, parse, patience

T = TypeVar("T")


class _PackedByHiredis:
    """Packs commands in C, as redis-py's other connections do; its asynchronous ones do it in Python."""

    _packer = HiredisRespSerializer()

    def pack_command(self, *args: EncodableT) -> list[bytes]:
        """A command as it is sent. redis-py's packer looks at each argument, which is text or a number here."""
        if args and isinstance(args[0], str) and " " not in args[0]:
            return [pack_command(args)]  # type: ignore[arg-type] # it says "a tuple of one"
        packed: list[bytes] = self._packer.pack(*args)  # type: ignore[arg-type] # it says "a list" of one argument
        return packed


class _Connection(_PackedByHiredis, aio.Connection):
    pass


class _SSLConnection(_PackedByHiredis, aio.SSLConnection):
    pass


class _UnixConnection(_PackedByHiredis, aio.UnixDomainSocketConnection):
    pass


_CONNECTIONS = {SSLConnection: _SSLConnection, UnixDomainSocketConnection: _UnixConnection}
LOOKS = 3  # turns of the loop: the answer is read from the socket, and its reader woken


def connect(url: str) -> aio.Redis | None:
    """A client for one event loop, which sends nothing twice; None where `url` is not of one server.

    It connects with the first command, and waits for ever: whoever asks it says how long (`within`).
    """
    address = parse(url)
    if address.kind != "server":
        return None
    options = {"max_connections": MAX_CONNECTIONS, **patience(None), **address.options}
    kind = options.pop("connection_class", None)
    pool = aio.ConnectionPool(_CONNECTIONS.get(kind, _Connection), **options, retry=Retry(NoBackoff(), 0))
    return aio.Redis.from_pool(pool)


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
