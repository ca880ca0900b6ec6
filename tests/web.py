"""The `web` or the `gate` process on the test's servers, for tests that need a real one."""

import http.client
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from email.message import Message
from functools import partial
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from rest_framework_simplejwt.tokens import AccessToken

from config.embedded import free_port
from events.models import Event
from tests.concurrency.children import environment
from tests.servers import ROOT

STARTS_WITHIN = 30  # seconds
# What granian is told of each lane at the least: that of Django, and that of the rush.
LANES = {
    "web": ["config.wsgi:application", "--interface", "wsgi", "--blocking-threads", "2"],
    "gate": ["config.asgi:application", "--interface", "asgi", "--loop", "uvloop"],
}
# Nobody is refused because Redis was held up for a moment, or this machine was busy: where a test is of neither.
PATIENT = {"STOCK_REDIS_TIMEOUT": "5", "DATABASE_REQUEST_TIMEOUT": "5", "DATABASE_CLAIMS": "10"}


class Server:
    """A process of one of the lanes, with more settings.

    `tuned`: as production starts it, by `config.serve`, which takes a third of a second longer. It may have no more
    than `files` files open, where that is said.
    """

    def __init__(
        self, folder: Path, lane: str, settings: Mapping[str, str], *, tuned: bool = False, files: int | None = None
    ) -> None:
        self.port = free_port()
        self.log = folder / f"{lane}-{self.port}.log"
        program = ["config.serve", lane] if tuned else ["granian", *LANES[lane], "--host", "127.0.0.1", "--no-log"]
        self._command = [sys.executable, "-m", *program, "--port", str(self.port)]
        self._environment = environment(WEB_PROCESSES="1", **settings)
        self._before = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (files, files)) if files else None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, or start it again on its port."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=self._before,  # noqa: PLW1509 - it does nothing but that
            )

    def wait(self) -> None:
        """Until it answers."""
        until_answered(self.port, lambda: self.process.poll() is None, self.log)

    def kill(self) -> None:
        """`kill -9`, unless it has ended, and wait until it is gone."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Message, bytes]:
        """Status, headers and body; an iterable as body is sent in chunks."""
        return ask(self.port, method, path, body, **headers)

    def claim_all(self, event: Event, users: Sequence[int]) -> set[int]:
        """Have each of the users claim, four at once; the statuses that were answered."""

        def claim(user: User) -> int:
            token = AccessToken.for_user(user)
            return self.ask("POST", f"/api/v1/events/{event.id}/claims", b"", Authorization=f"Bearer {token}")[0]

        with ThreadPoolExecutor(4) as threads:
            return set(threads.map(claim, User.objects.filter(pk__in=users)))

    def lines(self) -> list[dict[str, Any]]:
        """Its log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextmanager
def running(
    folder: Path,
    lane: str = "web",
    settings: Mapping[str, str] | None = None,
    *,
    tuned: bool = False,
    files: int | None = None,
) -> Iterator[Server]:
    """A process of the lane; it answers, and is ended in the end."""
    one = Server(folder, lane, settings or {}, tuned=tuned, files=files)
    try:
        one.wait()
        yield one
    finally:
        one.kill()


def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Message, bytes]:
    """Ask a server of this machine: status, headers and body; an iterable as body is sent in chunks."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=STARTS_WITHIN)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with suppress(BrokenPipeError, ConnectionResetError):  # what is too much may be refused before all is sent
            client.request(method, path, body, named, encode_chunked=body is not None and not isinstance(body, bytes))
        answer = client.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        client.close()


def until_answered(port: int, alive: Callable[[], bool], log: Path | None = None) -> None:
    """Wait until a server of ours answers at the port; there is nothing else to be told by."""
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            ask(port, "GET", "/livez")
        except (ConnectionError, http.client.HTTPException):
            told = log.read_text() if log else ""
            assert alive(), told
            assert time.monotonic() < deadline, told
            time.sleep(0.05)
        else:
            return


def until_read(port: int, event: Event) -> None:
    """Wait until the server has read the event, and so all that were made before it.

    It reads all of them twice a second. Of one that it had to look up by itself it does not know what remains.
    """
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        status, _, body = ask(port, "GET", f"/api/v1/events/{event.id}/state")
        if status == 200 and json.loads(body)["remaining"] is not None:
            return
        assert time.monotonic() < deadline, body
        time.sleep(0.05)
