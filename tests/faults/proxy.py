"""A TCP proxy between a client and a server, which can be told to misbehave as a network and its machines do.

One thread with one asyncio loop carries all proxies of a run. Every order to a proxy returns when it is in force, for
the connections there are and for those to come.

A stream out of which bytes have been swallowed must never go on: the client would take the answer to one question for
the answer to another, which no network does. Such a connection is *spoilt*; it stays mute, and is reset when the
proxy passes again.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Any

from config.embedded import free_port

Target = tuple[str, int] | Path
PATIENCE = 10.0  # seconds that an order may take


class Mode(Enum):
    """What a proxy does with what it is given."""

    PASS = auto()
    DELAY = auto()
    BLACK_HOLE = auto()
    RESET = auto()
    REFUSE = auto()
    DROP_REPLIES = auto()


class Proxies:
    """The thread that carries the proxies: a context manager, which ends them all."""

    def __enter__(self) -> "Proxies":
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()
        self._open: list[Proxy] = []
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for proxy in self._open:
            proxy.end()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def open(self, target: Target) -> "Proxy":
        """A new proxy, on a port of its own, in front of the address or the unix socket `target`."""
        proxy = Proxy(self._loop, target)
        self._open.append(proxy)
        return proxy


class Proxy:
    """One proxy. It passes until it is told otherwise."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: Target) -> None:
        self.mode = Mode.PASS
        self.seconds = 0.0  # that everything is held up, each way
        self.port = free_port()
        self._loop = loop
        self._target = target
        self._listener: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._transports: set[asyncio.Transport] = set()  # to both sides
        self._connecting: set[asyncio.Task[None]] = set()
        self._order(self._listen())

    def pass_on(self) -> None:
        """Do nothing but carry."""
        self._order(self._change(Mode.PASS))

    def delay(self, seconds: float) -> None:
        """Hold up everything for so long, each way. What a client asked before it gave up still arrives."""
        self._order(self._change(Mode.DELAY, seconds))

    def black_hole(self) -> None:
        """Take connections and swallow all that comes, in either direction."""
        self._order(self._change(Mode.BLACK_HOLE))

    def reset(self) -> None:
        """Reset the connections there are, and each new one as soon as it is made."""
        self._order(self._change(Mode.RESET))

    def refuse(self) -> None:
        """Be gone: connections end, and nobody listens."""
        self._order(self._change(Mode.REFUSE))

    def drop_replies(self) -> None:
        """Let requests through and swallow the answers: the server has done it, and the caller never hears."""
        self._order(self._change(Mode.DROP_REPLIES))

    def half_open(self) -> None:
        """The server's side of the connections is gone and the clients are never told. New connections pass."""
        self._order(self._cut_behind())

    def end(self) -> None:
        """Be gone for good, with everything that is open."""
        self._order(self._end())

    def _order(self, what: Coroutine[Any, Any, None]) -> None:
        """Have it done in the loop, and wait."""
        asyncio.run_coroutine_threadsafe(what, self._loop).result(PATIENCE)

    async def _listen(self) -> None:
        self._listener = await self._loop.create_server(
            lambda: _Client(self), "127.0.0.1", self.port, backlog=1024, reuse_address=True
        )

    async def _change(self, mode: Mode, seconds: float = 0.0) -> None:
        self.mode, self.seconds = mode, seconds
        if mode is Mode.REFUSE:
            if self._listener is not None:
                self._listener.close()
            self._listener = None
        elif self._listener is None:
            await self._listen()
        for link in list(self._links):
            if mode is Mode.REFUSE:
                link.close()
            elif mode is Mode.RESET or (mode is Mode.PASS and link.spoilt and not link.forgotten):
                link.reset()

    async def _end(self) -> None:
        await self._change(Mode.REFUSE)
        for task in self._connecting:
            task.cancel()
        for transport in self._transports:
            transport.abort()
        while self._transports or self._connecting:
            await asyncio.sleep(0)  # a turn of the loop, in which it is told that they are closed

    async def _cut_behind(self) -> None:
        for link in self._links:
            link.spoilt = link.forgotten = True
            link.server.abort()


class _Link:
    """A connection of a client and the one to the server behind it."""

    def __init__(self, proxy: Proxy, client: asyncio.Transport) -> None:
        self.proxy = proxy
        self.spoilt = False  # bytes are missing in it
        self.forgotten = False  # its client is never told that the server is gone
        self.client = _Way(client)
        self.server = _Way(None)

    def carry(self, data: bytes, *, to: "_Way") -> None:
        """Pass it on as the mode has it."""
        mode = self.proxy.mode
        swallowed = mode is Mode.BLACK_HOLE or (mode is Mode.DROP_REPLIES and to is self.client)
        # The requests of a spoilt connection go on while only the answers are dropped.
        if swallowed or self.forgotten or (self.spoilt and mode is not Mode.DROP_REPLIES):
            self.spoilt = True
            return
        to.send(data, late=self.proxy.seconds)

    def end(self, *, to: "_Way") -> None:
        """One side has closed: so does the other, unless nothing comes through."""
        if self.proxy.mode is Mode.BLACK_HOLE:
            self.spoilt = True  # and the other side hears of it when the link is reset
        elif not self.forgotten:
            to.close(late=self.proxy.seconds)

    def close(self) -> None:
        """End both sides."""
        self.client.close()
        self.server.close()

    def reset(self) -> None:
        """Reset both sides."""
        self.proxy._links.discard(self)
        self.client.abort()
        self.server.abort()


class _Way:
    """One direction of a link: what is held up stays in order. Before the transport is there, all waits for it."""

    def __init__(self, transport: asyncio.Transport | None) -> None:
        self._transport = transport
        self._waiting: list[tuple[Callable[[], None], float]] = []  # with how late each is to be
        self._last_due = 0.0

    def connected(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        for act, late in self._waiting:
            self._act(act, late)
        self._waiting.clear()

    def send(self, data: bytes, *, late: float = 0.0) -> None:
        self._act(lambda: self._write(data), late)

    def close(self, *, late: float = 0.0) -> None:
        self._act(self._close, late)

    def abort(self) -> None:
        """With a reset instead of the usual end."""
        if self._transport is None:
            self._waiting.append((self.abort, 0.0))
            return
        connection = self._transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _act(self, act: Callable[[], None], late: float) -> None:
        if self._transport is None:
            self._waiting.append((act, late))
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        due = max(now + late, self._last_due)
        if due <= now:
            act()
            return
        self._last_due = due
        loop.call_at(due, act)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Client(asyncio.Protocol):
    """The side that a client sees."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.proxy._transports.add(transport)
        self.link = _Link(self.proxy, transport)
        if self.proxy.mode is Mode.RESET:
            self.link.client.abort()
            return
        self.proxy._links.add(self.link)
        connecting = asyncio.get_running_loop().create_task(self._connect())
        self.proxy._connecting.add(connecting)
        connecting.add_done_callback(self.proxy._connecting.discard)

    async def _connect(self) -> None:
        loop, target = asyncio.get_running_loop(), self.proxy._target
        try:
            if isinstance(target, Path):
                await loop.create_unix_connection(lambda: _Server(self.link), str(target))
            else:
                await loop.create_connection(lambda: _Server(self.link), *target)
        except OSError:
            self.link.client.abort()  # the server refuses, and so does this

    def data_received(self, data: bytes) -> None:
        self.link.carry(data, to=self.link.server)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio passes it by name
        self.proxy._transports.discard(self.transport)
        self.link.end(to=self.link.server)
        if not self.link.spoilt:
            self.proxy._links.discard(self.link)


class _Server(asyncio.Protocol):
    """The side that the server sees."""

    def __init__(self, link: _Link) -> None:
        self.link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.link.proxy._transports.add(transport)
        self.link.server.connected(transport)

    def data_received(self, data: bytes) -> None:
        self.link.carry(data, to=self.link.client)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio passes it by name
        self.link.proxy._transports.discard(self.transport)
        self.link.end(to=self.link.client)
