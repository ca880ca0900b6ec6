"""HTTP/1.1 as bytes on a socket: what a client library would mend, or refuse to send, goes out as it is written."""

import select
import socket
from dataclasses import dataclass
from typing import BinaryIO

PATIENCE = 10  # seconds: whoever does not answer by then never will
PROBE = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came."""

    status: int
    headers: tuple[tuple[str, str], ...]  # names in small letters, in the order they came
    body: bytes

    def header(self, name: str) -> str | None:
        """The last of that name, None where there is none."""
        return dict(self.headers).get(name)


class Connection:
    """One to a server. Use it as a context."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._incoming = self._socket.makefile("rb")

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()

    def send(self, message: bytes) -> bool:
        """Send it; False where the server has closed the connection already."""
        try:
            self._socket.sendall(message)
        except ConnectionError:
            return False
        return True

    def waits(self) -> bool:
        """Whether nothing has come that was not received."""
        return not select.select([self._socket], [], [], 0)[0]

    def hang_up(self) -> None:
        """Be gone."""
        self._incoming.close()
        self._socket.close()

    def receive(self, *, of_head: bool = False) -> Reply | None:
        """The next answer, None where the connection was closed instead. An answer to HEAD has no body."""
        try:
            return _read(self._incoming, of_head=of_head)
        except ConnectionError:
            return None


def _read(incoming: BinaryIO, *, of_head: bool) -> Reply | None:
    start = incoming.readline()
    if not start:
        return None
    version, status, *_ = start.split(b" ", 2)
    assert version in {b"HTTP/1.1", b"HTTP/1.0"}, start
    headers = []
    while (line := incoming.readline()) != b"\r\n":
        name, _, value = line.decode("latin-1").partition(":")
        headers.append((name.lower(), value.strip()))
    reply = Reply(int(status), tuple(headers), b"")
    if of_head or reply.status in {204, 304} or reply.status < 200:
        return reply
    return Reply(reply.status, reply.headers, _body(incoming, reply))


def _body(incoming: BinaryIO, reply: Reply) -> bytes:
    if reply.header("transfer-encoding") == "chunked":
        body = b""
        while size := int(incoming.readline(), 16):
            body += incoming.read(size)
            incoming.readline()
        incoming.readline()
        return body
    length = reply.header("content-length")
    return incoming.read() if length is None else incoming.read(int(length))
