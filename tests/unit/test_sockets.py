"""What goes out on a socket whose client is slow: of states the newest, of the user's own frames all, or the end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from notifications import sockets
from notifications.sockets import OWN_FRAMES, PING, Message, Socket, written

STATES = [written({"type": "state", "n": n}) for n in range(5)]
OWN = [written({"type": "claim", "n": n}) for n in range(OWN_FRAMES + 1)]


class Line:
    """The server's side of a connection: what was begun with, each of which goes out when it is told to."""

    def __init__(self) -> None:
        self.begun: list[Message] = []
        self._under_way: list[asyncio.Future[None]] = []

    def send(self, message: Message) -> Awaitable[None]:
        self.begun.append(message)
        self._under_way.append(asyncio.get_running_loop().create_future())
        return self._under_way[-1]

    async def take(self) -> None:
        """Have what is under way go out."""
        self._under_way[-1].set_result(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def never() -> Any:
    await asyncio.get_running_loop().create_future()


def on_a_socket(act: Callable[[Socket, Line], Awaitable[None]]) -> None:
    async def run() -> None:
        line = Line()
        socket = Socket(never, line.send)
        await act(socket, line)
        socket._pings.cancel()

    asyncio.run(run())


def test_one_frame_is_under_way_and_the_newest_state_waits_behind_what_is_the_users_own() -> None:
    async def act(socket: Socket, line: Line) -> None:
        socket.show(STATES[0])
        for state in STATES[1:4]:
            socket.show(state)
        socket.tell(OWN[0])
        socket.tell(OWN[1])
        socket.ping()
        assert line.begun == [STATES[0]]
        for _ in range(3):
            await line.take()
        assert line.begun == [STATES[0], OWN[0], OWN[1], STATES[3]]
        await line.take()
        socket.ping()
        assert line.begun[4:] == [PING]

    on_a_socket(act)


@pytest.mark.parametrize(("frames", "ends"), [(OWN_FRAMES, False), (OWN_FRAMES + 1, True)])
def test_who_leaves_too_many_frames_waiting_is_given_up(frames: int, *, ends: bool) -> None:
    async def act(socket: Socket, line: Line) -> None:
        socket.show(STATES[0])
        for message in OWN[:frames]:
            socket.tell(message)
        assert (socket._code == sockets.SLOW) is ends

    on_a_socket(act)


@pytest.mark.parametrize(("seconds", "ends"), [(10, False), (0, True)])
def test_who_does_not_take_a_frame_in_time_is_given_up(settings: Any, seconds: float, *, ends: bool) -> None:
    settings.LIVE_SEND_TIMEOUT = seconds

    async def act(socket: Socket, line: Line) -> None:
        socket.show(STATES[0])
        socket.show(STATES[1])
        assert (socket._code == sockets.SLOW) is ends
        assert line.begun == [STATES[0]]

    on_a_socket(act)
