"""The `web` or the `gate` process on the test's servers, for tests that need a real one."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.db import connection
from rest_framework_simplejwt.tokens import AccessToken

from config.embedded import free_port
from events.models import Event

ROOT = Path(__file__).resolve().parent.parent
STARTS_WITHIN = 20  # seconds
# What granian is told of each lane: that of Django, and that of the rush.
LANES = {
    "web": ["config.wsgi:application", "--interface", "wsgi", "--blocking-threads", "2"],
    "gate": ["config.asgi:application", "--interface", "asgi"],
}


class Server:
    """A process of one of the lanes, as `make run` starts it."""

    def __init__(self, folder: Path, lane: str, environment: Mapping[str, str]) -> None:
        self.port = free_port()
        self.out = folder / f"{lane}-{self.port}.log"
        self._command = [
            *(sys.executable, "-m", "granian", *LANES[lane]),
            *("--host", "127.0.0.1", "--port", str(self.port), "--no-log"),
        ]
        url = os.environ["DATABASE_URL"].replace("/seonchak?", f"/{connection.settings_dict['NAME']}?")
        self._environment = {**os.environ, "DATABASE_URL": url, "LOG_LEVEL": "INFO", **environment}
        self.start()

    def start(self) -> None:
        """Start it, or start it again on its port."""
        with self.out.open("ab") as out:
            self.process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """`kill -9`, unless it has ended, and wait until it is gone."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Message, bytes]:
        """Status, headers and body; an iterable as body is sent in chunks."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=STARTS_WITHIN)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            client.request(method, path, body, named, encode_chunked=body is not None and not isinstance(body, bytes))
            answer = client.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            client.close()

    def claim_all(self, event: Event, users: Sequence[int]) -> set[int]:
        """Have each of the users claim, four at once; the statuses that were answered."""

        def claim(user: User) -> int:
            token = AccessToken.for_user(user)
            return self.ask("POST", f"/api/v1/events/{event.id}/claims", b"", Authorization=f"Bearer {token}")[0]

        with ThreadPoolExecutor(4) as threads:
            return set(threads.map(claim, User.objects.filter(pk__in=users)))

    def wait(self) -> None:
        """Until it answers."""
        for _ in range(STARTS_WITHIN * 10):
            try:
                self.ask("GET", "/livez")
            except ConnectionRefusedError:
                assert self.process.poll() is None, self.out.read_text()
                time.sleep(0.1)  # it is starting, and says so in no other way
            else:
                return
        raise AssertionError(self.out.read_text())

    def lines(self) -> list[dict[str, Any]]:
        """Its log."""
        return [json.loads(line) for line in self.out.read_text().splitlines()]


@contextmanager
def running(folder: Path, lane: str = "web", **environment: str) -> Iterator[Server]:
    """A process of the lane, with more settings where they are given; it answers, and is ended in the end."""
    one = Server(folder, lane, environment)
    try:
        one.wait()
        yield one
    finally:
        one.kill()
