"""`/metrics` for Prometheus: what all processes of the machine counted, and what waits right now.

Prometheus asks each gate, web, worker and notifier itself (`config.exporter` is the port of the latter two), or one of
them where all have one folder to count in (`METRICS_DIR`). The folder is one machine's, and one container's: by the
numbers of their processes its files are named.

Who may read it: whoever can reach it, unless `METRICS_TOKEN` is set; then who sends it as a bearer token. It tells how
sales go, by event id, and nothing of any user: set the token where the path can be reached from outside.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from hmac import compare_digest
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Gauge, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from config.tokens import CHALLENGE
from coupons.metrics import TASK_RETRIES
from events import stock
from events.errors import Unavailable
from events.models import DATABASE_WAYS, Event
from events.stock import Level
from events.waiting_room.store import hot_room_store
from notifications import delivering

GATE_REQUESTS = Counter("seonchak_gate_requests_total", "Requests that the gate answered.", ["route", "status"])
SOCKETS = Gauge("seonchak_sockets", "WebSockets that are open.", multiprocess_mode="livesum")


@cache
def gate_requests(route: str, status: int) -> Counter:
    """`GATE_REQUESTS` of one kind: to look for it costs more than to count."""
    return GATE_REQUESTS.labels(route=route, status=status)


def count_retry(sender: Any = None, **_: Any) -> None:
    """Celery's signal `task_retry`: a task met an error that may pass."""
    TASK_RETRIES.labels(task=getattr(sender, "name", "unknown")).inc()


class LiveEvents(Collector):
    """What waits at the moment of asking, for each live event that needs Redis: nothing waits in the others.

    Where a source is down, that is what it tells.
    """

    def __init__(self) -> None:
        self._live: dict[int, str] = {}  # the mode of each
        self._rooms: list[int] = []  # those with a waiting room

    def collect(self) -> Iterator[Metric]:
        """The gauges; one query, one round trip."""
        up = GaugeMetricFamily("seonchak_up", "Whether a server that is needed answers.", labels=["server"])
        try:
            live = (
                Event.objects.live()
                .exclude(strategy__in=DATABASE_WAYS)
                .order_by("id")
                .values_list("id", "stock_mode", "waiting_room")
            )
            self._live = {event_id: mode for event_id, mode, _ in live}
            self._rooms = [event_id for event_id, _, has_room in live if has_room]
            up.add_metric(["postgresql"], 1)
        except DatabaseError:  # the events last known are those whose claims now wait
            up.add_metric(["postgresql"], 0)
        levels: Mapping[int, Level] = {}
        try:
            levels = stock.keeper().levels(list(self._live))
            up.add_metric(["redis"], 1)
        except Unavailable:
            up.add_metric(["redis"], 0)
        yield up
        modes = GaugeMetricFamily("seonchak_database_mode", "1 where a sale sells without Redis.", labels=["event"])
        for event_id, mode in self._live.items():
            modes.add_metric([str(event_id)], int(mode == Event.StockMode.DATABASE))
        yield modes
        yield from _rooms(self._rooms)
        yield _gauge("seonchak_stock_units", "Units left to claim.", levels, "stock")
        yield _gauge("seonchak_backlog_claims", "Claims that wait in the claim log.", levels, "backlog")
        yield _gauge(
            "seonchak_oldest_undrained_seconds", "Age of the oldest claim in the claim log.", levels, "oldest_age"
        )


def _rooms(event_ids: list[int]) -> Iterator[Metric]:
    waiting = GaugeMetricFamily("seonchak_room_waiting", "People in line in the waiting room.", labels=["event"])
    called = GaugeMetricFamily("seonchak_room_called", "People whose turn has come so far.", labels=["event"])
    try:
        rooms = hot_room_store().numbers(event_ids)
    except RedisError:
        rooms = {}
    for event_id, numbers in rooms.items():
        waiting.add_metric([str(event_id)], numbers.waiting)
        called.add_metric([str(event_id)], numbers.serving)
    yield waiting
    yield called


def _gauge(name: str, text: str, levels: Mapping[int, Level], field: str) -> Metric:
    gauge = GaugeMetricFamily(name, text, labels=["event"])
    for event_id, level in levels.items():
        if level.epoch:
            gauge.add_metric([str(event_id)], getattr(level, field))
    return gauge


class WaitingDeliveries(Collector):
    """How long what users are to be told waits. Where the database is down, `seonchak_up` tells."""

    def collect(self) -> Iterator[Metric]:
        """The gauges; two queries."""
        outbox = GaugeMetricFamily(
            "seonchak_oldest_outbox_seconds", "Age of the oldest notification that is not fanned out."
        )
        waiting = GaugeMetricFamily(
            "seonchak_oldest_delivery_seconds",
            "Age of the oldest delivery that is still to be sent.",
            labels=["channel"],
        )
        with suppress(DatabaseError):
            outbox.add_metric([], delivering.outbox_age())
            for channel, age in delivering.ages().items():
                waiting.add_metric([channel], age)
        yield outbox
        yield waiting


_now = CollectorRegistry()
_now.register(LiveEvents())
_now.register(WaitingDeliveries())


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """The numbers in Prometheus' text format."""
    if not may_read(request.META.get("HTTP_AUTHORIZATION", "")):
        return HttpResponse(status=401, headers={"WWW-Authenticate": CHALLENGE})
    return HttpResponse(generate_latest(counted()) + generate_latest(_now), content_type=CONTENT_TYPE_LATEST)


def may_read(authorization: str) -> bool:
    """Whether who sent that header may read the numbers."""
    return not settings.METRICS_TOKEN or compare_digest(
        authorization.encode(), f"Bearer {settings.METRICS_TOKEN}".encode()
    )


def counted() -> CollectorRegistry:
    """What this process counted; with a METRICS_DIR what all of the machine did, workers included."""
    if not settings.METRICS_DIR:
        return REGISTRY
    _forget_the_dead(Path(settings.METRICS_DIR))
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=settings.METRICS_DIR)  # type: ignore[no-untyped-call]
    return registry


def _forget_the_dead(folder: Path) -> None:
    """Take away what processes that are gone had at hand, sockets say: who was killed could not. Counts stay."""
    for file in folder.glob("gauge_live*.db"):
        process = int(file.stem.rpartition("_")[2])
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)  # as prometheus-client's `mark_process_dead`, and as others may just have done
        except PermissionError:
            continue  # it lives, as another user
