"""Fixtures of the acceptance tests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.web import Server, running


@pytest.fixture
def serving(transactional_db: None, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a process as production starts it: `serving("gate", SERVER_KEEP_ALIVE="1")`."""
    with ExitStack() as stack:

        def start(lane: str, *, files: int | None = None, **settings: str) -> Server:
            return stack.enter_context(running(tmp_path, lane, settings, tuned=True, files=files))

        yield start
