"""A load generator that is not the limit: keep-alive connections, prepared bytes, one epoll loop and no framework.

With a `rate` it is open-loop: requests are due at fixed moments, whether or not the server keeps up, and a latency
counts from when its request was due. (G. Tene, *How NOT to measure latency*, 2015, on coordinated omission.)
"""

import gc
import re
import resource
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest

LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
GIVE_UP = 30.0  # seconds without any answer
COARSE = 0.001  # seconds: epoll rounds up to it, and requests that are due would go out in bursts
CUT_OFF = 0  # the status of a request whose connection ended before its answer


@dataclass
class Load:
    """What came back: answers by status, latencies in seconds, seconds in all, and what it cost us."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    connecting: float = 0.0  # seconds until all connections were open
    sending: float = 0.0  # seconds from the first request to the last
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
        with suppress(ConnectionError):  # which is met again where its answer is waited for
            sent = self.socket.send(request)
            assert sent == len(request), "a request fits the socket's buffer"

    def status(self) -> int | None:
        """That of the answer, None while it is not all there; `CUT_OFF` where the server has closed the connection."""
        data = b""
        with suppress(ConnectionError):
            data = self.socket.recv(65536)
        if not data:
            return CUT_OFF
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        length = LENGTH.search(self.buffer, 0, end)
        if len(self.buffer) < end + 4 + (int(length[1]) if length else 0):
            return None
        status, self.buffer = int(self.buffer[9:12]), b""
        return status


def fire(
    port: int,
    requests: Sequence[bytes],
    *,
    connections: int,
    rate: float | None = None,
    at_the_start: Callable[[], None] = lambda: None,
    at_the_end: Callable[[], None] = lambda: None,
) -> Load:
    """Send all the requests over so many connections: as fast as they are answered, or so many a second.

    All connections are open when `at_the_start` and `at_the_end` are called, and in between. It ends sooner where the
    server has closed all of them.
    """
    load, left, open_ = Load(), deque(requests), {}
    with select.epoll() as epoll, _no_collections():
        connecting = time.perf_counter()
        for _ in range(connections):
            one = _Connection(port)
            open_[one.socket.fileno()] = one
            epoll.register(one.socket.fileno(), select.EPOLLIN)
        idle = deque(open_.values())
        load.connecting = time.perf_counter() - connecting
        at_the_start()
        started, cpu = time.perf_counter(), time.process_time()
        due = started
        waiting = 0
        while waiting or (left and idle):
            now = time.perf_counter()
            while left and idle and (rate is None or due <= now):
                idle.popleft().ask(left.popleft(), now if rate is None else due)
                waiting += 1
                due += 1 / rate if rate else 0
                if not left:
                    load.sending = time.perf_counter() - started
            pause = max(0.0, due - now) if rate and left and idle else GIVE_UP
            if pause < COARSE:
                time.sleep(pause)
                pause = 0.0
            ready = epoll.poll(pause)
            assert ready or pause < GIVE_UP, "the server does not answer"
            for descriptor, _ in ready:
                one = open_[descriptor]
                status = one.status()
                if status is None:
                    continue
                if status == CUT_OFF:
                    epoll.unregister(descriptor)
                    if one in idle:
                        idle.remove(one)
                        continue
                else:
                    load.latencies.append(time.perf_counter() - one.asked)
                    idle.append(one)
                load.statuses[status] += 1
                waiting -= 1
        load.seconds, load.cpu = time.perf_counter() - started, time.process_time() - cpu
    at_the_end()
    for one in open_.values():
        one.socket.close()
    return load


@contextmanager
def _no_collections() -> Iterator[None]:
    """The garbage collector of this process stopped the load for up to 30 ms, and the server was taken for slow."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def need_files(number: int) -> None:
    """Raise the limit of open files of this process and its children to come; skip the test where it cannot be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number:
        pytest.skip(f"it needs {number:,} open files, and the hard limit here is {hard:,} (`ulimit -Hn`)")
    if soft != resource.RLIM_INFINITY and soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
