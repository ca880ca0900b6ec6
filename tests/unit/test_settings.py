"""A missing or wrong setting stops the start with one line that names it."""

import os
import subprocess
import sys
from inspect import signature
from pathlib import Path

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


def start(folder: Path, code: str = "import config.settings", **changed: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in {**GOOD, **changed}.items() if value}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "SEONCHAK_DIR": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_with_all_of_them_it_starts(tmp_path: Path) -> None:
    started = start(tmp_path)
    assert (started.returncode, started.stderr) == (0, "")


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_missing_one_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    stopped = start(tmp_path, **{name: ""})
    assert stopped.returncode == 1
    assert stopped.stderr.startswith(f"seonchak: {name} is not set.")
    assert stopped.stderr.count("\n") == 1


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
def test_a_wrong_one_is_named_in_one_line_that_tells_no_secret(tmp_path: Path, name: str, value: str) -> None:
    stopped = start(tmp_path, **{name: value})
    assert stopped.returncode == 1
    assert stopped.stderr.startswith(f"seonchak: {name} ")
    assert stopped.stderr.count("\n") == 1
    assert "secret" not in stopped.stderr


@pytest.mark.parametrize(
    "url",
    [
        "valkey://localhost:1/0",
        "redis+sentinel://user:pw@localhost:26379,127.0.0.1:26380/primary/0",
        "redis+cluster://user:pw@localhost:7000,localhost:7001",
    ],
)
def test_it_starts_with_every_kind_of_stock(tmp_path: Path, url: str) -> None:
    started = start(tmp_path, STOCK_REDIS_URL=url)
    assert (started.returncode, started.stderr) == (0, "")


def test_a_valkey_is_named_to_the_cache_and_the_broker_as_they_know_it(tmp_path: Path) -> None:
    printed = "import config.settings as s; print(s.CACHES['default']['LOCATION'], s.CELERY_BROKER_URL)"
    started = start(tmp_path, code=printed, CACHE_URL="valkey://localhost:1/1", BROKER_URL="valkey://localhost:1/2")
    assert started.stdout.split() == ["redis://localhost:1/1", "redis://localhost:1/2"]


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
def test_the_broker_s_transport_knows_the_timeouts_it_is_given(tmp_path: Path, url: str, known: set[str]) -> None:
    printed = "import config.settings as s; print(*s.CELERY_BROKER_TRANSPORT_OPTIONS)"
    names = set(start(tmp_path, code=printed, BROKER_URL=url).stdout.split())
    assert sum("timeout" in name for name in names) >= 2
    assert names <= known, "what a transport does not know it passes over in silence"
