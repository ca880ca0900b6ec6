"""A pytest plugin that starts embedded servers for the run, before Django reads its settings.

Loaded by `-p tests.servers`. The servers listen where nobody else does and are gone, with their data, after the run:
the tests never meet what happens to run on 5432 or 6379, whatever the environment says.
"""

import os
import shutil
import tempfile
from pathlib import Path

from config.embedded import EmbeddedServers

ROOT = Path(__file__).resolve().parent.parent

_folder: Path | None = None
_servers: EmbeddedServers | None = None


def _start() -> None:
    global _folder, _servers  # noqa: PLW0603 - the run's servers, started once
    local = ROOT / ".seonchak"
    local.mkdir(exist_ok=True)
    _folder = Path(tempfile.mkdtemp(prefix="test-", dir=local))
    _servers = EmbeddedServers(_folder, durable=False)
    os.environ.update(_servers.start())
    os.environ.update(
        SECRET_KEY="tests-only-" + "x" * 40,
        DJANGO_SETTINGS_MODULE="config.settings",
        LOG_LEVEL="WARNING",
        DEFAULT_LANGUAGE="en",  # who asks for no language gets the one that the tests are written in
        PROMETHEUS_MULTIPROC_DIR="",  # else a demo that ran here before leaves all processes one folder to count in
    )


def pytest_unconfigure() -> None:
    if _servers is not None:
        _servers.stop()
    if _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)


_start()
