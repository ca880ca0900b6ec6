"""WebSockets as the apps use them: what is sent on one, what it may send, and when it is given up.

In the lowest of the apps, so that all may have something to say on one. The way of a connection up to here is
`config.sockets`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

import orjson
from django.conf import settings

Message = Mapping[str, Any]  # of ASGI
Frame = dict[str, Any]  # what a client is sent, with a "type"

GONE = 0  # the client hung up: there is nobody to be told why
BROKEN = 1011
STOPPING = 1012
NOT_JSON = 1007
TOO_MUCH = 1008
TOO_LARGE = 1009
LATER = 1013
UNAUTHENTICATED = 4401
NOT_FOUND = 4404
SLOW = 4408
TOO_MANY = 4429

TOGETHER = 100  # sockets that a frame goes to before others get their turn
OWN_FRAMES = 32  # that may wait for those before them
CLOSED_WITHIN = 1.0  # seconds that a client has to take a close frame
SILENCES = 2.5  # pings that a client may leave without an answer
MESSAGES, MESSAGES_WITHIN = 30, 60.0  # that a client may send, in so many seconds


def written(frame: Frame | bytes) -> Message:
    """A frame, or its JSON, as ASGI sends it. Made once, however many sockets it goes to."""
    text = frame if isinstance(frame, bytes) else orjson.dumps(frame)
    return {"type": "websocket.send", "text": text.decode()}


PING = written({"type": "ping"})


class Visit(Protocol):
    """What a client came for, as the app has it that serves it."""

    private: bool  # whether it is nothing without a user

    def identify(self, user_id: int) -> None:
        """The client is this user: tell what is theirs."""

    def forget(self) -> None:
        """The client is not that user any more."""

    def hear(self, frame: Frame, message: Message) -> None:
        """Something was told to the user: the frame, and as it is sent."""

    def resume(self) -> None:
        """What was told to the user lately may have been missed."""

    def leave(self) -> None:
        """The client is gone."""


class Socket:
    """One WebSocket that was accepted.

    To send takes no waiting and no task: the server has begun with it when the call returns. There is one frame under
    way at a time. Of those that come meanwhile the newest state waits, and a few that are the user's own; who does not
    take a frame within `LIVE_SEND_TIMEOUT`, or answers no ping, is given up.
    """

    __slots__ = (
        "_began",
        "_code",
        "_following",
        "_heard",
        "_newest",
        "_own",
        "_pings",
        "_receive",
        "_send",
        "_sending",
        "_since",
        "_spent",
        "listens_only",
        "task",
    )  # fmt: skip

    def __init__(
        self,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
        *,
        listens_only: bool = False,
    ) -> None:
        """For the task that calls `read`. It pings from now on, and expects no answer of who only listens."""
        self.task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment] # one calls us
        self._receive = receive
        self._send = send
        self.listens_only = listens_only
        self._sending: asyncio.Future[None] | None = None
        self._began = 0.0  # when it was begun with what is under way
        self._following = False  # whether something waits for it
        self._newest: Message | None = None
        self._own: list[Message] | None = None
        self._code: int | None = None  # why it is over
        self._heard = self._since = time.monotonic()
        self._spent = 0
        self._pings = asyncio.get_running_loop().call_later(settings.LIVE_PING, self._keep_alive)

    def show(self, state: Message) -> None:
        """Send what takes the place of all that was shown before."""
        if self._is_idle():
            self._begin(state)
        else:
            self._newest = state
            self._follow()

    def tell(self, message: Message) -> None:
        """Send what is the user's own, after all that was told before."""
        if self._code is not None:
            return
        if self._is_idle():
            self._begin(message)
            return
        self._own = self._own or []
        if len(self._own) < OWN_FRAMES:
            self._own.append(message)
            self._follow()
        else:
            self.end(SLOW)

    def ping(self) -> None:
        """Ask whether the client is there, and keep what stands between from closing a connection that is quiet."""
        if self._is_idle():
            self._begin(PING)
        else:
            self._follow()

    def end(self, code: int) -> None:
        """Have it closed, for this reason."""
        if self._code is None:
            self._code = code
            if asyncio.current_task() is not self.task:
                self.task.cancel()

    async def read(self) -> Frame | None:
        """The next message of the client; None when it is over."""
        while self._code is None:
            try:
                message = await self._receive()
            except asyncio.CancelledError:
                if not self._is_over():
                    raise
                self.task.uncancel()
                break
            if message["type"] == "websocket.disconnect":
                self._code = GONE
                break
            said = self._understood(message)
            if said is not None and said["type"] != "pong":
                return said
        return None

    async def close(self) -> None:
        """Tell the client why, if it is there to hear it. The last that is done with a socket."""
        self._pings.cancel()
        code = self._code = BROKEN if self._code is None else self._code
        own, self._own, self._newest = self._own or [], None, None
        if code in {GONE, SLOW}:
            own = []
            if self._sending is not None:
                self._sending.cancel()  # the close frame would wait for it
        if code == GONE:
            return
        with suppress(OSError, RuntimeError, TimeoutError):  # the client went without
            async with asyncio.timeout(CLOSED_WITHIN):
                if self._sending is not None and not self._sending.done():
                    await self._sending
                for message in own:
                    await self._send(message)
                await self._send({"type": "websocket.close", "code": code})

    def _understood(self, message: Message) -> dict[str, Any] | None:
        """What the client said; None, and the end, where it says too much or what is nothing."""
        now = time.monotonic()
        self._heard = now
        if now - self._since > MESSAGES_WITHIN:
            self._since, self._spent = now, 0
        self._spent += 1
        text = message.get("text") or message.get("bytes") or ""
        if self._spent > MESSAGES:
            self._code = TOO_MUCH
        elif len(text) > settings.LIVE_MESSAGE_LIMIT:
            self._code = TOO_LARGE
        else:
            with suppress(orjson.JSONDecodeError):
                said = orjson.loads(text)
                if isinstance(said, dict) and isinstance(said.get("type"), str):
                    return said
            self._code = NOT_JSON
        return None

    def _is_over(self) -> bool:
        return self._code is not None

    def _is_idle(self) -> bool:
        return not self._following and (self._sending is None or self._sending.done())

    def _begin(self, message: Message) -> None:
        if self._code is not None:
            return
        sending = self._send(message)
        # A future has been begun with; what is none is yet to be, or tells that the connection is gone.
        self._sending = sending if asyncio.isfuture(sending) else asyncio.ensure_future(_sent(sending))
        self._began = time.monotonic()

    def _follow(self) -> None:
        """Go on as soon as what is under way has gone."""
        if time.monotonic() - self._began > settings.LIVE_SEND_TIMEOUT:
            self.end(SLOW)
        elif not self._following and self._sending is not None:
            self._following = True
            self._sending.add_done_callback(self._go_on)

    def _go_on(self, _: object) -> None:
        self._following = False
        if self._own:
            self._begin(self._own.pop(0))
        elif self._newest is not None:
            state, self._newest = self._newest, None
            self._begin(state)
        if self._code is None and (self._own or self._newest is not None):
            self._follow()

    def _keep_alive(self) -> None:
        if not self.listens_only and time.monotonic() - self._heard > SILENCES * settings.LIVE_PING:
            self.end(SLOW)
            return
        self.ping()
        self._pings = asyncio.get_running_loop().call_later(settings.LIVE_PING, self._keep_alive)


async def _sent(sending: Awaitable[None]) -> None:
    await sending
