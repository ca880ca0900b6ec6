"""Fixtures of the acceptance tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.serving import Serving


@pytest.fixture
def serving(transactional_db: None, tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """Start a process: `serving("gate", SERVER_KEEP_ALIVE="1")`."""
    started: list[Serving] = []

    def start(what: str, *, files: int | None = None, **settings: str) -> Serving:
        started.append(Serving(what, tmp_path, files, **settings))
        started[-1].wait()
        return started[-1]

    yield start
    for one in started:
        one.end()
