"""A client of a Redis Cluster that sends nothing twice and waits for nobody longer than its timeout.

redis-py's own (8.1) differs in three ways that matter here. It runs a pipeline's commands again, one by one, where they
timed out, whatever its `retry` says. It asks for the cluster's topology inside the call that failed, node after node
and one thread after another, so that with a cluster that hangs eight threads wait for seconds; and when it is made. And
some of its errors are no `RedisError`.
"""

# mypy: disable-error-code="no-untyped-call"
# (redis-py's cluster has no types)

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from redis import exceptions
from redis.cluster import (
    PRIMARY,
    ClusterNode,
    ClusterPipeline,
    PipelineCommand,
    PipelineStrategy,
    RedisCluster,
)
from redis.exceptions import AskError, RedisClusterException, RedisError, TryAgainError

log = structlog.get_logger(__name__)


class Cluster(RedisCluster):
    """Safe to share between threads. It joins the cluster with the first command."""

    def __init__(self, nodes: tuple[tuple[str, int], ...], *, timeout: float, **options: Any) -> None:
        self._nodes = nodes
        self._timeout = timeout
        self._options = options
        self._joined = threading.Event()
        self._starting = threading.Lock()
        self._reader: threading.Thread | None = None

    def __getattr__(self, name: str) -> Any:
        # What redis-py sets when it has joined. Some commands look at it before they are sent.
        if self._joined.is_set() or threading.current_thread() is self._reader:
            raise AttributeError(name)
        self._join()
        return getattr(self, name)

    def close(self) -> None:
        """End all connections."""
        if self._joined.is_set():
            super().close()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command once, and follow where a node passes it on unexecuted."""
        self._join()
        try:
            return super().execute_command(*args, **options)
        except RedisClusterException as error:
            raise exceptions.ConnectionError(str(error)) from error

    def pipeline(self, transaction: bool | None = None, shard_hint: Any = None) -> ClusterPipeline:
        """Commands that go to each node in one piece."""
        self._join()
        pipe: ClusterPipeline = super().pipeline(transaction, shard_hint)
        pipe._execution_strategy = _SentOnce(pipe, self)
        return pipe

    def command(self, **options: Any) -> Any:
        """What commands there are and where their keys stand, by the first node that answers."""
        for node in self.get_nodes():
            with suppress(exceptions.ConnectionError, exceptions.TimeoutError):
                return super().execute_command("COMMAND", target_nodes=node, **options)
        raise exceptions.ConnectionError("no node of the cluster says which commands there are")

    def get_node(
        self, host: str | None = None, port: int | None = None, node_name: str | None = None
    ) -> ClusterNode | None:
        """The node, also where it has joined the cluster after this client: slots are moved to it first."""
        node: ClusterNode | None = super().get_node(host, port, node_name)
        if node is None and node_name is not None:
            host, _, number = node_name.rpartition(":")
            manager = self.nodes_manager
            with manager._lock:
                node = manager.nodes_cache.setdefault(node_name, ClusterNode(host, int(number), PRIMARY))
        return node

    def _join(self) -> None:
        if self._joined.is_set() or threading.current_thread() is self._reader:
            return
        self._in_background(self._read_commands_and_topology)
        if not self._joined.wait(self._timeout):
            raise exceptions.ConnectionError("no node of the cluster has answered yet")

    def _read_commands_and_topology(self) -> None:
        super().__init__(
            startup_nodes=[ClusterNode(host, port) for host, port in self._nodes],
            # The sale on one part of the slots goes on while another part has no primary.
            require_full_coverage=False,
            # Where a slot went is noted; the whole topology is read when a node is away.
            reinitialize_steps=0,
            **self._options,
        )
        read = self.nodes_manager.initialize
        # Inside a call it is not read, only asked for.
        ask = lambda **options: self._in_background(partial(read, **options))  # noqa: E731
        setattr(self.nodes_manager, "initialize", ask)  # noqa: B010 - to mypy it is a method
        self._joined.set()

    def _in_background(self, read: Callable[[], None]) -> None:
        """Have it done by a thread of its own, at most one at a time."""

        def work() -> None:
            try:
                read()
            except (RedisError, RedisClusterException) as error:  # whoever needs it asks for it again
                log.warning("cluster_unread", error=type(error).__name__)

        with self._starting:
            if self._reader is None or not self._reader.is_alive():
                self._reader = threading.Thread(target=work, name="cluster", daemon=True)
                self._reader.start()


class _SentOnce(PipelineStrategy):
    """A pipeline of which only those commands are sent again that a node passed on, unexecuted."""

    def __init__(self, pipe: ClusterPipeline, cluster: Cluster) -> None:
        super().__init__(pipe)
        self._cluster = cluster

    def send_cluster_commands(
        self, stack: list[PipelineCommand], raise_on_error: bool = True, allow_redirections: bool = True
    ) -> list[Any]:
        for commands in self._by_node(stack):
            self._send(commands)
        for command in stack:
            if allow_redirections and isinstance(command.result, (AskError, TryAgainError)):
                command.result = self._passed_on(command)
        results = [command.result for command in stack]
        if any(isinstance(result, (exceptions.ConnectionError, exceptions.TimeoutError)) for result in results):
            self._nodes_manager.initialize()
        if raise_on_error:
            for result in results:
                if isinstance(result, Exception):
                    raise result
        return results

    def _by_node(self, stack: list[PipelineCommand]) -> Iterable[list[PipelineCommand]]:
        """The scripts of each node by themselves, so that one that cannot be connected to stops those of no other."""
        nodes: dict[str, list[PipelineCommand]] = {}
        for command in stack:
            name = ""  # all other commands, which redis-py finds the nodes for
            if command.args[0] in ("EVAL", "EVALSHA"):
                # Told here, because otherwise a round trip asks the server which of the words are keys.
                try:
                    (node,) = self._pipe.get_nodes_from_slot(command.args[0], *command.args)
                except RedisClusterException as error:
                    command.result = exceptions.ConnectionError(str(error))
                    continue
                command.options["target_nodes"] = node
                name = node.name
            nodes.setdefault(name, []).append(command)
        return nodes.values()

    def _send(self, commands: list[PipelineCommand]) -> None:
        """Send them once; where they cannot be sent, that is the result of each."""
        try:
            self._send_cluster_commands(commands, raise_on_error=False, allow_redirections=False)
        except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
            failed: RedisError = error
        except RedisClusterException as error:
            failed = exceptions.ConnectionError(str(error))
        else:
            return
        for command in commands:
            command.result = failed

    def _passed_on(self, command: PipelineCommand) -> Any:
        try:
            return self._cluster.execute_command(*command.args, **command.options)
        except RedisError as error:
            return error
