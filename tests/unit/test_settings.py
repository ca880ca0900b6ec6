"""A missing or wrong setting stops the start with one line that names it."""

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from kombu.transport.pyamqp import Connection as AmqpConnection
from kombu.transport.redis import Channel as RedisChannel

ROOT = Path(__file__).resolve().parent.parent.parent
GOOD = {
    "SECRET_KEY": "k" * 40,
    "DATABASE_URL": "postgresql://localhost/none",
    "STOCK_REDIS_URL": "redis://localhost:1/0",
    "CACHE_URL": "redis://localhost:1/1",
    "BROKER_URL": "redis://localhost:1/2",
}

Read = Callable[..., dict[str, Any]]


def given(folder: Path, changed: dict[str, str]) -> dict[str, str]:
    """An environment with all that is needed but for what is changed; what is empty is left out."""
    given = {"PATH": os.environ["PATH"], "SEONCHAK_DIR": str(folder), **GOOD, **changed}
    return {name: value for name, value in given.items() if value}


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Have the settings read anew, as a process does that starts: `read(DEBUG="maybe")`."""

    def run(**changed: str) -> dict[str, Any]:
        with patch.dict(os.environ, given(tmp_path, changed), clear=True):
            return runpy.run_path(str(ROOT / "config" / "settings.py"))

    return run


def stop(read: Read, **changed: str) -> str:
    """What it says when it stops."""
    with pytest.raises(SystemExit) as stopped:
        read(**changed)
    return str(stopped.value)


@pytest.mark.parametrize(
    ("key", "ends"), [("k" * 40, (0, "")), ("", (1, "seonchak: SECRET_KEY is not set."))], ids=["all", "not all"]
)
def test_a_process_starts_with_all_of_them_and_else_ends_with_what_it_says(
    tmp_path: Path, key: str, ends: tuple[int, str]
) -> None:
    started = subprocess.run(
        [sys.executable, "-c", "import config.settings"],
        cwd=ROOT,
        env=given(tmp_path, {"SECRET_KEY": key}),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (started.returncode, started.stderr.partition(" It ")[0]) == ends
    assert started.stderr.count("\n") == started.returncode


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_missing_one_is_named_in_one_line(read: Read, name: str) -> None:
    told = stop(read, **{name: ""})
    assert told.startswith(f"seonchak: {name} is not set.")
    assert "\n" not in told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", "short"),
        ("JWT_SIGNING_KEY", "short"),
        ("JWT_ALGORITHM", "none"),
        ("JWT_JWKS_URL", "file:///secret"),
        ("DATABASE_URL", "mysql://secret@localhost/none"),
        ("STOCK_REDIS_URL", "localhost:6379"),
        ("STOCK_REDIS_URL", "redis://user:secret@localhost:port/0"),
        ("STOCK_REDIS_URL", "redis+sentinel://user:secret@localhost:26379"),
        ("STOCK_REDIS_URL", "redis+cluster://user:secret@localhost:7000/1"),
        ("STOCK_REDIS_URL", "redis://user:secret@localhost/0?socket_timeout=60"),
        ("BROKER_URL", "memory://secret"),
        ("BROKER_URL", "unix:///secret@socket"),
        ("TRUSTED_PROXIES", "many"),
        ("TRUSTED_PROXIES", "-1"),
        ("STOCK_REDIS_TIMEOUT", "0"),
        ("STOCK_REDIS_BULK_TIMEOUT", "0"),
        ("DEBUG", "maybe"),
        ("LOG_LEVEL", "loud"),
        ("PUBLIC_URL", "coupons.example.com/secret"),
        ("EMAIL_URL", "http://user:secret@localhost:25"),
        ("EMAIL_URL", "smtp://user:secret@localhost:port"),
        ("EMAIL_FROM", "Seonchak"),
        ("VAPID_PRIVATE_KEY", "secret"),
        ("VAPID_CONTACT", "nobody"),
        ("OUTBOUND_PRIVATE", "perhaps"),
        ("OUTBOUND_CA", "no-such-file"),
        ("DELIVERY_ATTEMPTS", "0"),
        ("REMIND_BEFORE", "soon"),
        ("SIGN_IN_RATE_PER_ACCOUNT", "often"),
        ("PROMETHEUS_MULTIPROC_DIR", "no-such-folder"),
        ("METRICS_LISTEN", "9100"),
    ],
)
def test_a_wrong_one_is_named_in_one_line_that_tells_no_secret(read: Read, name: str, value: str) -> None:
    told = stop(read, **{name: value})
    assert told.startswith(f"seonchak: {name} ")
    assert "\n" not in told
    assert "secret" not in told


@pytest.mark.parametrize(
    "url",
    [
        "valkey://localhost:1/0",
        "redis+sentinel://user:pw@localhost:26379,127.0.0.1:26380/primary/0",
        "redis+cluster://user:pw@localhost:7000,localhost:7001",
    ],
)
def test_it_starts_with_every_kind_of_stock(read: Read, url: str) -> None:
    assert read(STOCK_REDIS_URL=url)["STOCK_REDIS_URL"] == url


def test_a_valkey_is_named_to_the_cache_and_the_broker_as_they_know_it(read: Read) -> None:
    settings = read(CACHE_URL="valkey://localhost:1/1", BROKER_URL="valkey://localhost:1/2")
    assert settings["CACHES"]["default"]["LOCATION"] == "redis://localhost:1/1"
    assert settings["CELERY_BROKER_URL"] == "redis://localhost:1/2"


@pytest.mark.parametrize(
    ("url", "known"),
    [
        ("redis://localhost:1/2", set(RedisChannel.from_transport_options)),
        ("rediss://localhost:1/2", set(RedisChannel.from_transport_options)),
        ("redis+socket:///nowhere", set(RedisChannel.from_transport_options)),
        ("amqp://localhost:1//", set(signature(AmqpConnection).parameters)),
        ("amqps://localhost:1//", set(signature(AmqpConnection).parameters)),
    ],
)
def test_the_broker_s_transport_knows_the_timeouts_it_is_given(read: Read, url: str, known: set[str]) -> None:
    names = set(read(BROKER_URL=url)["CELERY_BROKER_TRANSPORT_OPTIONS"])
    assert sum("timeout" in name for name in names) >= 2
    assert names <= known, "what a transport does not know it passes over in silence"
