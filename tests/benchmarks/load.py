"""A load generator that is not the limit: keep-alive connections that send prepared bytes, one request at a time."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial


@dataclass
class Load:
    """What came back: answers by status, latencies in seconds, seconds in all."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return sum(self.statuses.values()) / self.seconds

    def percentile(self, share: float) -> float:
        """In milliseconds."""
        return sorted(self.latencies)[int(share * (len(self.latencies) - 1))] * 1000


class _Connection(asyncio.Protocol):
    def __init__(self, requests: list[bytes], load: Load, done: asyncio.Future[None]) -> None:
        self.requests, self.load, self.done = requests, load, done
        self.buffer = b""
        self.asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._next()

    def _next(self) -> None:
        if not self.requests:
            self.transport.close()
            return
        self.asked = time.perf_counter()
        self.transport.write(self.requests.pop())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self.buffer = b""
        self.load.latencies.append(time.perf_counter() - self.asked)
        self.load.statuses[int(head[9:12])] += 1
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio passes it by name
        if not self.done.done():
            self.done.set_result(None)


def fire(port: int, requests: list[bytes], *, connections: int) -> Load:
    """Send all the requests over so many connections."""

    async def run() -> Load:
        load, loop = Load(), asyncio.get_running_loop()
        waiting = list(reversed(requests))
        ends = []
        started = time.perf_counter()
        for _ in range(connections):
            done: asyncio.Future[None] = loop.create_future()
            ends.append(done)
            await loop.create_connection(partial(_Connection, waiting, load, done), "127.0.0.1", port)
        await asyncio.gather(*ends)
        load.seconds = time.perf_counter() - started
        return load

    return asyncio.run(run())
