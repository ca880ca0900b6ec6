"""The metrics of real workers and notifiers, each at a port of its own, as docker-compose.yml has them."""

import http.client
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings
from redis import Redis

from config.embedded import free_port
from coupons import services
from events.models import Event
from notifications.models import Delivery
from notifications.tasks import fan_out
from tests.celery_kit import Processes
from tests.factories import make_users

TOKEN = "prometheus-only"


@pytest.fixture
def processes(transactional_db: None, tmp_path: Path) -> Iterator[Processes]:
    with Redis.from_url(settings.BROKER_URL) as broker:
        broker.flushdb()
        started = Processes(tmp_path, METRICS_TOKEN=TOKEN)
        yield started
        started.end()
        broker.flushdb()


def started(processes: Processes, name: str) -> int:
    """Start it, as in a container of its own; the port of its metrics."""
    port, counts = free_port(), processes.folder / f"counts-{name}"
    counts.mkdir()
    processes.start(name, METRICS_LISTEN=f"127.0.0.1:{port}", PROMETHEUS_MULTIPROC_DIR=str(counts))
    return port


def ask(port: int, token: str = TOKEN) -> tuple[int, str]:
    """Status and text; a status of 0 where nobody listens yet."""
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        asking.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})
        answer = asking.getresponse()
        return answer.status, answer.read().decode()
    except ConnectionRefusedError:
        return 0, ""
    finally:
        asking.close()


def test_what_workers_and_notifiers_count_is_told_by_each(sale: Callable[..., Event], processes: Processes) -> None:
    worker, notifier = started(processes, "worker"), started(processes, "notifier")
    processes.until(lambda: ask(worker)[0] == ask(notifier)[0] == 200)
    assert ask(worker, "another") == (401, "")
    event = sale(quantity=3)
    for user in make_users(3):
        services.claim(event_id=event.id, user_id=user)
    # Counted by a child of the worker, which has no port: in the folder that they share.
    processes.until(lambda: "seonchak_coupons_issued_total 3.0" in ask(worker)[1])
    fan_out.delay()
    sent = 'seonchak_deliveries_total{channel="websocket",outcome="sent"} 3.0'
    processes.until(lambda: sent in ask(notifier)[1])
    assert Delivery.objects.filter(status="sent").count() == 3
    assert "seonchak_coupons_issued_total 3.0" not in ask(notifier)[1], "each tells its own"
