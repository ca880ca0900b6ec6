"""What the recommended settings of Redis cost the claim path: durability on disk, and a replica that must be there."""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import hiredis
import pytest

from coupons.stock.store import StockStore
from tests.stock_kit import window
from tests.topologies import DATA, HOST, Node, until

pytestmark = pytest.mark.benchmark

CONNECTIONS, SCRIPTS, ROUNDS = 32, 4_000, 7
EVENT = 7
REPLICATED = {"min-replicas-to-write": "1", "min-replicas-max-lag": "2"}
# The first is what the others are held against.
SETTINGS: dict[str, tuple[dict[str, str], bool]] = {
    "appendfsync everysec": ({"appendfsync": "everysec"}, False),
    "no append-only file": ({"appendonly": "no"}, False),
    "appendfsync no": ({"appendfsync": "no"}, False),
    "appendfsync always": ({"appendfsync": "always"}, False),
    "everysec, a replica": ({"appendfsync": "everysec"}, True),
    "everysec, a replica, min-replicas-to-write 1": ({"appendfsync": "everysec", **REPLICATED}, True),
}


@dataclass
class Cost:
    """Of one setting, round by round."""

    rates: list[float] = field(default_factory=list)  # scripts a second
    p99s: list[float] = field(default_factory=list)  # milliseconds


def test_what_durability_and_a_replica_cost_a_claim(
    tmp_path: Path, report: Callable[[dict[str, object]], None]
) -> None:
    costs = {name: Cost() for name in SETTINGS}
    with ExitStack() as stack:
        nodes = {
            name: _started(stack, tmp_path / str(number), *its) for number, (name, its) in enumerate(SETTINGS.items())
        }
        for round_ in range(ROUNDS):  # interleaved, so that all meet the same noise
            for name, node in nodes.items():
                seconds, latencies = _claim(node, first_user=round_ * SCRIPTS)
                costs[name].rates.append(SCRIPTS / seconds)
                costs[name].p99s.append(sorted(latencies)[int(0.99 * (SCRIPTS - 1))] * 1000)
    standard = median(next(iter(costs.values())).rates)
    report(
        {
            name: f"{median(cost.rates):7,.0f} scripts/s, ratio {median(cost.rates) / standard:.2f},"
            f" p99 {median(cost.p99s):.1f} ms"
            for name, cost in costs.items()
        }
    )


def _started(stack: ExitStack, folder: Path, settings: dict[str, str], replicated: bool) -> Node:
    node: Node = stack.enter_context(Node(folder / "primary", {**DATA, **settings}))
    if replicated:
        replica = {**DATA, "replicaof": f"{HOST} {node.port}"}
        stack.enter_context(Node(folder / "replica", replica))
        until(partial(_has_replica, node), "the replica is in step")
    store = StockStore(node.client)
    store.load(EVENT, epoch=1, available=1_000_000, sequence=0, window=window(), claimants=[])
    node.client.script_load(store._reserve.text)
    return node


def _has_replica(node: Node) -> bool:
    state: Any = node.client.info("replication")
    return bool(state.get("slave0", {}).get("state") == "online")


def _claim(node: Node, *, first_user: int) -> tuple[float, list[float]]:
    """One claim of each of `SCRIPTS` users, over so many connections; the seconds in all, and of each."""
    store = StockStore(node.client)
    connection = node.client.connection_pool.get_connection()
    commands = []
    for user in range(first_user + 1, first_user + SCRIPTS + 1):
        names, arguments = store._reserving(EVENT, 1, [(user, "AAAAAAAAAAA")])
        command = ("EVALSHA", store._reserve.sha, len(names), *names, *arguments)
        commands.append(b"".join(connection.pack_command(*command)))
    node.client.connection_pool.release(connection)
    return asyncio.run(_send(node.port, commands))


async def _send(port: int, commands: list[bytes]) -> tuple[float, list[float]]:
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    ends = [loop.create_future() for _ in range(CONNECTIONS)]
    started = time.perf_counter()
    for end in ends:
        await loop.create_connection(partial(_Claimant, commands, latencies, end), HOST, port)
    await asyncio.gather(*ends)
    return time.perf_counter() - started, latencies


class _Claimant(asyncio.Protocol):
    """A connection that sends the next command when the last is answered."""

    def __init__(self, commands: list[bytes], latencies: list[float], end: asyncio.Future[None]) -> None:
        self.commands, self.latencies, self.end = commands, latencies, end
        self.reader = hiredis.Reader()
        self.asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        answer = self.reader.gets()
        if answer is False:
            return
        self.latencies.append(time.perf_counter() - self.asked)
        if isinstance(answer, Exception) or answer[4][0] != 0:  # not accepted
            self.end.set_exception(AssertionError(f"no claim: {answer}"))
            self.transport.close()
            return
        self._next()

    def _next(self) -> None:
        if self.commands:
            self.asked = time.perf_counter()
            self.transport.write(self.commands.pop())
        else:
            self.end.set_result(None)
            self.transport.close()
