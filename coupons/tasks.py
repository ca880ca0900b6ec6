"""Celery tasks. Each is thin: ids in, one call. None is needed for safety; losing all messages loses nothing."""

import structlog
from celery import shared_task
from django.db import InterfaceError, OperationalError
from redis.exceptions import RedisError

from coupons import holds, issuing, modes, reconciling
from coupons.standby import standby
from coupons.stock.store import bulk_store

log = structlog.get_logger(__name__)

PASSING = (OperationalError, InterfaceError, RedisError)  # errors that a later try may not meet


@shared_task(
    autoretry_for=PASSING,
    retry_backoff=1,
    retry_backoff_max=30,
    retry_jitter=True,
    max_retries=8,
    acks_late=True,
)
def issue_claims(event_id: int) -> None:
    """Drain the event's claim log."""
    issuing.issue_claims(event_id, bulk_store())


@shared_task
def release_holds(event_id: int) -> None:
    """Give back the event's holds whose time is over."""
    holds.release_due(event_id, bulk_store())


@shared_task
def sweep() -> None:
    """Every second: see to every event that needs it, whether or not anybody was nudged."""
    standby.heard()
    try:
        for event_id in holds.due():
            release_holds.apply_async((event_id,), expires=5)
        due = reconciling.look(bulk_store())
    except PASSING as error:
        log.warning("sweep_failed", error=type(error).__name__)  # the next one comes in a second
        return
    if due.away:
        log.warning("sweep_incomplete", events=due.away)
    for task, events in ((issue_claims, due.drain), (reconcile, due.reconcile), (bring_back, due.bring_back)):
        for event_id in events:
            task.apply_async((event_id,), expires=5)


@shared_task
def reconcile(event_id: int) -> None:
    """Load the event's stock anew, or whatever else it needs."""
    reconciling.reconcile(event_id, bulk_store())


@shared_task
def bring_back(event_id: int) -> None:
    """Move a sale that had lost Redis back to it."""
    modes.sell_from_redis(event_id, bulk_store())


@shared_task
def reconcile_all() -> None:
    """Every minute: compare Redis with the database and mend what was seen to differ twice."""
    reconciling.reconcile_all(bulk_store())
