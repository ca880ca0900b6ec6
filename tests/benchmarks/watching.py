"""Ten thousand who look at an event: WebSockets as bytes, in one epoll loop, so that to count frames costs little."""

import select
import socket
import struct
import time

HANDSHAKE = (
    b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n%b\r\n"
)
LISTEN = b"Sec-WebSocket-Protocol: listen\r\n"
AT_ONCE = 200  # handshakes under way
GIVE_UP = 30.0  # seconds without anything


class Crowd:
    """So many sockets at a path, which only listen unless said otherwise. Each has been shown the state by then."""

    def __init__(self, port: int, path: str, number: int, *, header: bytes = LISTEN) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        handshake = HANDSHAKE % (path.encode(), header)
        for first in range(0, number, AT_ONCE):
            coming: dict[int, bytes] = {}
            for _ in range(min(AT_ONCE, number - first)):
                one = socket.create_connection(("127.0.0.1", port), timeout=GIVE_UP)
                one.setblocking(False)
                one.sendall(handshake)
                self._sockets[one.fileno()] = one
                self._epoll.register(one.fileno(), select.EPOLLIN)
                coming[one.fileno()] = b""
            while coming:
                for descriptor, received in self._receive():
                    coming[descriptor] += received
                    head, end, frames = coming[descriptor].partition(b"\r\n\r\n")
                    if end and frames_in(frames):
                        assert head.startswith(b"HTTP/1.1 101 "), head
                        del coming[descriptor]

    def await_frame(self) -> list[float]:
        """Until one has come to each; the moments."""
        moments: list[float] = []
        while len(moments) < len(self._sockets):
            received = list(self._receive())
            now = time.perf_counter()
            for _, frames in received:
                moments += [now] * frames_in(frames)
        return moments

    def is_left_alone(self, seconds: float) -> bool:
        """Whether nothing comes in so long."""
        return not self._epoll.poll(seconds)

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up, all of them."""
        for one in self._sockets.values():
            one.close()
        self._epoll.close()

    def _receive(self) -> list[tuple[int, bytes]]:
        ready = self._epoll.poll(GIVE_UP, 1000)
        assert ready, "nothing comes"
        received = [(descriptor, self._sockets[descriptor].recv(4096)) for descriptor, _ in ready]
        assert all(part for _, part in received), "one was hung up on"
        return received


def frames_in(received: bytes) -> int:
    """How many there are, each whole and none over 64 KiB."""
    number, start = 0, 0
    while start < len(received):
        size = received[start + 1]
        start += 2
        if size == 126:
            (size,) = struct.unpack_from(">H", received, start)
            start += 2
        start += size
        assert start <= len(received), "a frame came in pieces"
        number += 1
    return number
