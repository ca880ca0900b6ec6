"""The server processes as production starts them, `python -m config.serve`, on the test's servers and database."""

import http.client
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from config.embedded import free_port
from tests.concurrency.children import environment
from tests.servers import ROOT

STARTS_WITHIN = 30  # seconds


class Serving:
    """A `gate` or a `web`. `settings` go into its environment; of `files` it may have no more open."""

    def __init__(self, what: str, folder: Path, files: int | None = None, **settings: str) -> None:
        self.port = free_port()
        self.log = folder / f"{what}-{self.port}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "config.serve", what, "--port", str(self.port)],
                cwd=ROOT,
                env=environment(WEB_PROCESSES="1", **settings),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(resource.setrlimit, resource.RLIMIT_NOFILE, (files, files)) if files else None,  # noqa: PLW1509
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait(self) -> None:
        """Until it answers."""
        until_answered(self.port, lambda: self.process.poll() is None, self.log)

    def end(self) -> None:
        """Kill it, and what it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def until_answered(port: int, alive: Callable[[], bool], log: Path | None = None) -> None:
    """Wait until a server of ours answers at the port; there is nothing else to be told by."""
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=STARTS_WITHIN)
        try:
            client.request("GET", "/livez")
            client.getresponse().read()
        except (ConnectionError, http.client.HTTPException):
            told = log.read_text() if log else ""
            assert alive(), told
            assert time.monotonic() < deadline, told
            time.sleep(0.05)
        else:
            return
        finally:
            client.close()
