"""A round: one sale in one strategy, from its publication until all that was accepted is issued."""

import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from django.contrib.auth import get_user_model
from django.db import connection
from django.utils import timezone

from coupons.comparing import callers, servers
from coupons.comparing.callers import Told
from coupons.comparing.servers import Counts
from coupons.issuing import issue_claims
from coupons.models import Coupon, FailedClaim, Reconciliation
from coupons.stock.store import bulk_store
from events import services
from events.models import Event
from events.redis.keys import key
from notifications.models import Notification, Outbox

LOOK_EVERY = 0.005  # seconds between two looks of the worker
READY_WITHIN = 0.5  # seconds that the processes have to come to the start


@dataclass(frozen=True, slots=True)
class Load:
    """What every strategy gets. `users` ask for `quantity` coupons, by so many threads of so many processes."""

    users: Sequence[int]
    quantity: int
    processes: int
    threads: int


@dataclass(frozen=True, slots=True)
class Round:
    """What a sale gave."""

    strategy: str
    told: list[Told]
    began: float  # by the monotonic clock
    issued_at: float  # when the last coupon was written
    issued: int
    quantity: int
    counts: Counts


def play(strategy: str, load: Load, processes: Executor) -> Round:
    """Publish a sale, let the crowd at it, and drain it meanwhile, as a worker does; it is gone afterwards."""
    event = _publish(strategy, load.quantity)
    try:
        before = servers.counts()
        began, over = time.monotonic() + READY_WITHIN, threading.Event()
        worker = threading.Thread(target=_drain, args=(event, over), daemon=True)
        worker.start()
        groups = [load.users[first :: load.processes] for first in range(load.processes)]
        rush = partial(callers.rush, event.pk, threads=load.threads, begin=began)
        told = [one for group in processes.map(rush, groups) for one in group]
        over.set()
        worker.join()
        servers.end_sessions()
        counts = servers.counts().since(before)
        last = Coupon.objects.filter(event=event).order_by("-issued_at").values_list("issued_at", flat=True).first()
        issued_at = time.monotonic() - (timezone.now() - last).total_seconds() if last else began
        issued = Coupon.objects.filter(event=event).count()
        return Round(strategy, told, began, issued_at, issued, load.quantity, counts)
    finally:
        _remove(event)


def make_users(number: int) -> list[int]:
    """So many users who cannot sign in, for as long as the comparison takes."""
    users = get_user_model()
    prefix = secrets.token_hex(4)
    made = users.objects.bulk_create([users(username=f"compare-{prefix}-{nth}") for nth in range(number)])
    return [user.pk for user in made]


def remove_users(users: Sequence[int]) -> None:
    """Let them go."""
    get_user_model().objects.filter(pk__in=users).delete()


def _publish(strategy: str, quantity: int) -> Event:
    now = timezone.now()
    event = Event.objects.create(
        title=f"Comparison: {strategy}",
        slug=f"compare-{secrets.token_hex(8)}",
        benefit="nothing",
        strategy=strategy,
        quantity=quantity,
        opens_at=now,
        closes_at=now + timedelta(hours=1),
    )
    return services.publish(event_id=event.pk)


def _drain(event: Event, over: threading.Event) -> None:
    try:
        while event.logs_claims:
            ending = over.is_set()  # before the look: what came until then is seen by it
            issue_claims(event.pk, bulk_store())
            if ending and not bulk_store().backlogs([event.pk])[event.pk]:
                return
            time.sleep(LOOK_EVERY)
    finally:
        connection.close()


def _remove(event: Event) -> None:
    """Leave nothing behind in either server."""
    services.close(event_id=event.pk)
    told = Notification.objects.filter(data__event_id=event.pk)
    Outbox.objects.filter(notifications__overlap=list(told.values_list("id", flat=True))).delete()
    told.delete()
    for model in (Coupon, FailedClaim, Reconciliation):
        model.objects.filter(event=event).delete()
    keys = list(bulk_store().client.scan_iter(key(event.pk, "*")))
    event.delete()
    for one in keys:
        bulk_store().client.delete(one)
