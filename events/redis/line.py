"""One connection to Redis for all calls of an event loop: they go out as they come, and are answered in that order.

redis-py makes the connection (address, TLS, user, database), and hiredis reads and writes what goes over it. Only what
is between them is ours, for each group of claims passes it: redis-py's pool, retries, records and streams were nearly
half of what a call cost the processor.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from hiredis import Reader, pack_command
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.typing import EncodableT

Command = tuple[EncodableT, ...]

_NOTHING = object()  # what the reader says while no answer is all there


class Line(asyncio.Protocol):
    """A connection that calls share. Not for commands that wait, or that change what the connection is."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.is_open = True
        self._writer = writer  # held, for it ends the connection when nobody holds it
        self._transport = writer.transport
        self._transport.set_protocol(self)
        self._calls: deque[asyncio.Future[Any]] = deque()  # unanswered, those that were given up included
        self._reader = Reader(
            encoding="utf-8", errors="replace", replyError=DefaultParser.parse_error, notEnoughData=_NOTHING
        )

    @classmethod
    async def over(cls, connection: AbstractConnection) -> "Line":
        """Connect, and take the connection over. A `RedisError` where nobody is there, or does not let us in."""
        try:
            await connection.connect()  # type: ignore[no-untyped-call] # redis-py's has no types
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        writer = connection._writer
        if writer is None:
            raise RedisConnectionError("it has ended already")
        connection._reader = connection._writer = None  # or it would be closed with what redis-py has of it
        return cls(writer)

    def ask(self, *commands: Command) -> Sequence["asyncio.Future[Any]"]:
        """Send commands; the answer of each, later, or the `RedisError` that came for one."""
        loop = asyncio.get_running_loop()
        calls = [loop.create_future() for _ in commands]
        self._calls.extend(calls)
        self._transport.writelines([pack_command(command) for command in commands])  # type: ignore[arg-type] # it says "a tuple of one"
        return calls

    def retire(self) -> None:
        """Take no further calls, since one was given up. Those that are under way keep their time."""
        self.is_open = False
        self._close_when_done()

    def _close_when_done(self) -> None:
        if all(call.done() for call in self._calls):
            self.close()

    def close(self) -> None:
        """End it. Who waits for an answer gets a `ConnectionError`."""
        self.is_open = False
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Give the calls their answers."""
        self._reader.feed(data)
        while (answer := self._reader.gets()) is not _NOTHING:
            call = self._calls.popleft()
            if call.done():
                continue
            if isinstance(answer, Exception):
                call.set_exception(answer)
            else:
                call.set_result(answer)
        if not self.is_open:
            self._close_when_done()

    def connection_lost(self, _: Exception | None) -> None:
        """Tell who waits for an answer that none will come."""
        self.is_open = False
        for call in self._calls:
            if not call.done():
                call.set_exception(RedisConnectionError("the connection ended before the answer"))
        self._calls.clear()
