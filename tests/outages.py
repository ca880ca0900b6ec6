"""Servers that are away, for tests: they refuse, or take connections and never answer."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from unittest.mock import patch

from django.db import OperationalError
from django.db.backends.utils import CursorWrapper
from django.test import override_settings
from django.utils import timezone

from config.embedded import free_port
from events.models import Event
from events.redis import servers


@contextmanager
def stock_at(url: str) -> Iterator[None]:
    """The stock at another address, reached with the timeouts and the retries of the settings."""
    with override_settings(STOCK_REDIS_URL=url), patch.dict(servers._kept, clear=True):
        yield


@contextmanager
def no_redis() -> Iterator[None]:
    """Nobody listens where the stock should be."""
    with stock_at(f"redis://127.0.0.1:{free_port()}/0"):
        yield


@contextmanager
def silent_server() -> Iterator[socket.socket]:
    """A server on the loopback address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        yield listener


@contextmanager
def no_database() -> Iterator[None]:
    """Every statement of this process fails as it does when the connection is gone."""
    with patch.object(CursorWrapper, "execute", side_effect=OperationalError("the server is away")):
        yield


def redis_is_due(event: Event) -> None:
    """Let the time come to try Redis again."""
    Event.objects.filter(pk=event.id).update(fell_back_at=timezone.now() - timedelta(hours=1))
