"""A load generator that is not the limit: keep-alive connections, prepared bytes, one epoll loop and no framework.

With a `rate` it is open-loop: requests are due at fixed moments, whether or not the server keeps up, and a latency
counts from when its request was due. (G. Tene, *How NOT to measure latency*, 2015, on coordinated omission.)
"""

import re
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
GIVE_UP = 30.0  # seconds without any answer


@dataclass
class Load:
    """What came back: answers by status, latencies in seconds, seconds in all, and what it cost us."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu: float = 0.0  # seconds of this process

    @property
    def answered(self) -> int:
        return len(self.latencies)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds

    def percentile(self, share: float) -> float:
        """In milliseconds."""
        return sorted(self.latencies)[int(share * (len(self.latencies) - 1))] * 1000


class _Connection:
    __slots__ = ("asked", "buffer", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=GIVE_UP)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.buffer = b""
        self.asked = 0.0

    def ask(self, request: bytes, at: float) -> None:
        self.asked = at
        sent = self.socket.send(request)
        assert sent == len(request), "a request fits the socket's buffer"

    def status(self) -> int | None:
        """That of the answer, None while it is not all there."""
        data = self.socket.recv(65536)
        assert data, "the server closed the connection"
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        length = LENGTH.search(self.buffer, 0, end)
        if len(self.buffer) < end + 4 + (int(length[1]) if length else 0):
            return None
        status, self.buffer = int(self.buffer[9:12]), b""
        return status


def fire(port: int, requests: Sequence[bytes], *, connections: int, rate: float | None = None) -> Load:
    """Send all the requests over so many connections: as fast as they are answered, or so many a second."""
    load, left, open_ = Load(), deque(requests), {}
    with select.epoll() as epoll:
        for _ in range(connections):
            one = _Connection(port)
            open_[one.socket.fileno()] = one
            epoll.register(one.socket.fileno(), select.EPOLLIN)
        idle = deque(open_.values())
        started, cpu = time.perf_counter(), time.process_time()
        due = started
        waiting = 0
        while left or waiting:
            now = time.perf_counter()
            while left and idle and (rate is None or due <= now):
                idle.popleft().ask(left.popleft(), now if rate is None else due)
                waiting += 1
                due += 1 / rate if rate else 0
            pause = max(0.0, due - now) if rate and left and idle else GIVE_UP
            ready = epoll.poll(pause)
            assert ready or pause < GIVE_UP, "the server does not answer"
            for descriptor, _ in ready:
                one = open_[descriptor]
                status = one.status()
                if status is None:
                    continue
                load.statuses[status] += 1
                load.latencies.append(time.perf_counter() - one.asked)
                waiting -= 1
                idle.append(one)
        load.seconds, load.cpu = time.perf_counter() - started, time.process_time() - cpu
    for one in open_.values():
        one.socket.close()
    return load
