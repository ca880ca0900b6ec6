"""The gate's WebSockets: `/ws/events/{id}` and `/ws/me` (docs/live.md).

What is refused before it is a WebSocket is refused by a status of HTTP, which a browser shows to no script: nobody who
uses our pages meets it. What a client can meet is told by a close code.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

import structlog
from django.conf import settings

from config import peers
from config.as_wsgi import Receive, Scope, Send
from config.metrics import SOCKETS
from config.tokens import Unauthenticated, owner_of
from events.errors import EventNotFound, Refusal, Unavailable
from notifications import sockets
from notifications.sockets import Socket, Visit, written
from notifications.subscription import Subscription, TooManySockets

log = structlog.get_logger(__name__)

EVENTS, ME = "/ws/events/", "/ws/me"
# Subprotocols, which are all that a browser lets a page say at the handshake: beside the first stands a token. Clients
# that offer one of them only listen.
BEARER, LISTEN = "bearer", "listen"
STOPPED_WITHIN = 3.0  # seconds that all of them have at a stop to take their close frames


class Feed(Protocol):
    """What is served at a path."""

    async def visit(self, socket: Socket, event_id: int) -> Visit:
        """Let a client in; a `Refusal` where it cannot be."""


class Sockets:
    """Serves them all. `is_ours` tells whether a Host header names us."""

    def __init__(self, *, events: Feed, me: Feed, is_ours: Callable[[bytes], bool]) -> None:
        self._events = events
        self._me = me
        self._is_ours = is_ours
        self._subscription = Subscription()
        self._open: set[Socket] = set()
        self._listeners = Listeners()
        self._stopping: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope."""
        await receive()  # that it would like to be connected
        feed, event_id = self._find(scope["path"])
        headers = dict(scope["headers"])
        if feed is None:
            return await _refuse(send, HTTPStatus.NOT_FOUND)
        if scope["query_string"]:  # a token in it would be in the logs of whoever stands between
            return await _refuse(send, HTTPStatus.BAD_REQUEST)
        if not self._may_connect(headers):
            return await _refuse(send, HTTPStatus.FORBIDDEN)
        if self._stopping is not None or len(self._open) >= settings.LIVE_SOCKETS:
            return await _refuse(send, HTTPStatus.SERVICE_UNAVAILABLE)
        offered, peer = scope["subprotocols"], peers.peer(scope["client"], scope["server"])
        scope.clear()  # the server keeps it as long as the socket, and of its headers nothing is needed any more
        del headers
        subprotocol = next((one for one in (BEARER, LISTEN) if one in offered), None)
        token = next((one for one in offered if one != BEARER), "") if subprotocol == BEARER else None
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
        listens_only = subprotocol is not None
        # For the first byte that it reads of a client the server takes 128 KiB, and keeps them as long as the socket
        # (tungstenite's `read_buffer_size`, which Granian 2.8 lets nobody set).
        unread = listens_only and peers.CAN_TELL
        socket = Socket(_never if unread else receive, send, listens_only=listens_only)
        self._open.add(socket)
        if unread:
            self._listeners.add(socket, peer)
        SOCKETS.inc()
        try:
            return await self._serve(socket, feed, event_id, token)
        finally:
            self._open.remove(socket)
            self._listeners.remove(socket)
            SOCKETS.dec()

    def end_before_stop(self) -> None:
        """At SIGTERM close all sockets, and have the server stop then: with it ends what could tell them.

        To be called before the first socket, in the loop that serves them. Granian stops at SIGINT as at SIGTERM.
        """

        def end() -> None:
            self._stopping = self._stopping or asyncio.create_task(self._end())

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)

    async def _end(self) -> None:
        readers = {socket.task for socket in self._open}
        for socket in self._open:
            socket.end(sockets.STOPPING)
        if readers:
            await asyncio.wait(readers, timeout=STOPPED_WITHIN)
        signal.raise_signal(signal.SIGINT)

    def _find(self, path: str) -> tuple[Feed | None, int]:
        if path == ME:
            return self._me, 0
        event = path.removeprefix(EVENTS)
        if event != path and event.isascii() and event.isdigit() and len(event) < 19:  # noqa: PLR2004
            return self._events, int(event)
        return None, 0

    def _may_connect(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether it comes from a page of ours. Only browsers say where from, and only in them is it of any use."""
        host, origin = headers.get(b"host", b""), headers.get(b"origin")
        if not self._is_ours(host):
            return False
        if origin is None:
            return True
        return origin.partition(b"://")[2] == host or origin.decode("latin-1") in settings.LIVE_ORIGINS

    async def _serve(self, socket: Socket, feed: Feed, event_id: int, token: str | None) -> None:
        visit = client = None
        try:
            visit = await feed.visit(socket, event_id)
            client = Client(socket, visit, self._subscription)
            if token is not None:
                client.identify(token)
            while (said := await socket.read()) is not None:
                if said["type"] == "auth":
                    client.identify(said.get("token"))
                else:
                    socket.tell(_error("invalid", "There is no such message."))
        except Refusal as refusal:
            socket.tell(_error(refusal.code, refusal.detail))
            socket.end(sockets.NOT_FOUND if isinstance(refusal, EventNotFound) else sockets.LATER)
        except Exception:
            log.exception("socket_broke")
        finally:
            if client is not None:
                client.forget()
            if visit is not None:
                visit.leave()
            await socket.close()


class Listeners:
    """Those who are not read. Granian does not tell that a frame could not be sent: they are looked for instead."""

    def __init__(self) -> None:
        self._peers: dict[Socket, peers.Peer] = {}
        self._looking: asyncio.Task[None] | None = None

    def add(self, socket: Socket, peer: peers.Peer) -> None:
        """Have an eye on it."""
        self._peers[socket] = peer
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_for_them())

    def remove(self, socket: Socket) -> None:
        """Not any more."""
        self._peers.pop(socket, None)
        if not self._peers and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    async def _look_for_them(self) -> None:
        missed: set[Socket] = set()
        while True:
            await asyncio.sleep(settings.LIVE_PING / 5)
            expected = dict(self._peers)
            try:
                connected = await asyncio.to_thread(peers.connected)
            except OSError as error:
                log.warning("peers_not_read", error=type(error).__name__)
                continue
            missing = {socket for socket, peer in expected.items() if peer not in connected}
            for socket in missing & missed:  # twice, for it may have been passed over
                socket.end(sockets.GONE)
            missed = missing


class Client:
    """Who is at a socket: nobody, until a token says otherwise, and as long as it does."""

    def __init__(self, socket: Socket, visit: Visit, subscription: Subscription) -> None:
        self._socket = socket
        self._visit = visit
        self._subscription = subscription
        self._user_id = 0
        self._until: asyncio.TimerHandle | None = None
        if visit.private:
            self._wait(settings.LIVE_AUTH_TIMEOUT, Unauthenticated("Nobody said who asks: send an auth message."))

    def identify(self, token: Any) -> None:
        """Be the user whose token it is; with a bad one, nobody."""
        try:
            owner = owner_of(token if isinstance(token, str) else "")
            user_id = owner.id
            if user_id != self._user_id:
                self._subscription.add(user_id, self._visit)
        except Unauthenticated as refusal:
            self._refuse(refusal, sockets.UNAUTHENTICATED)
        except Unavailable as refusal:
            self._refuse(refusal, sockets.LATER)
        except TooManySockets as refusal:
            self._socket.tell(_error(refusal.code, refusal.detail))
            self._socket.end(sockets.TOO_MANY)
        else:
            if user_id != self._user_id:
                self.forget()
            self._user_id = user_id
            self._wait(owner.expires_at - time.time(), Unauthenticated("The token has expired: send another one."))
            ready = {"type": "ready", "user_id": user_id, "expires_at": owner.expires_at * 1000}
            self._socket.tell(written(ready))
            self._visit.identify(user_id)

    def forget(self) -> None:
        """Be nobody."""
        if self._until is not None:
            self._until.cancel()
        if self._user_id:
            self._subscription.remove(self._user_id, self._visit)
            self._visit.forget()
        self._user_id = 0

    def _wait(self, seconds: float, then: Refusal) -> None:
        if self._until is not None:
            self._until.cancel()
        self._until = asyncio.get_running_loop().call_later(seconds, self._refuse, then, sockets.UNAUTHENTICATED)

    def _refuse(self, refusal: Refusal, close: int) -> None:
        """Be nobody, and be told why; that was it where nobody gets anything, or can send no other token."""
        self.forget()
        self._socket.tell(_error(refusal.code, refusal.detail))
        if self._visit.private or self._socket.listens_only:
            self._socket.end(close)


def _error(code: str, detail: str) -> sockets.Message:
    return written({"type": "error", "code": code, "detail": detail})


async def _never() -> sockets.Message:
    message: sockets.Message = await asyncio.get_running_loop().create_future()
    return message


async def _refuse(send: Send, status: HTTPStatus) -> None:
    await send({"type": "websocket.http.response.start", "status": int(status), "headers": []})
    await send({"type": "websocket.http.response.body", "body": b""})
