"""Forgetting what became of notifications: deliveries, and what was never fanned out, after `DELIVERIES_KEPT` days.

The notifications themselves stay: they are their users' own.
"""

import time
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from notifications.models import Delivery, Outbox

BATCH = 1000  # rows a transaction looks at, and deletes at most
RUN = 20.0  # seconds that a run goes on; the next one does what is left


def purge() -> int:
    """Delete what is too old, the oldest first; how many rows it was.

    In short transactions that wait for no row: what somebody else has locked is left to the next run.
    """
    before = timezone.now() - timedelta(days=settings.DELIVERIES_KEPT)
    return _purge(Delivery.objects.all(), "notification__created_at", before) + _purge(
        Outbox.objects.all(), "created_at", before
    )


def _purge(rows: "QuerySet[Delivery] | QuerySet[Outbox]", told_at: str, before: datetime) -> int:
    """Go through the rows by their ids, which rise with `told_at`, until nothing is old any more.

    There is no index by age, which every row would cost. A delivery that was sent again is young and its notification
    is not: it stays, and those behind it are looked at all the same.
    """
    number, last = 0, 0
    until = time.monotonic() + RUN
    while time.monotonic() < until:
        looked_at = list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", "created_at", told_at)[:BATCH])
        if not any(told < before for _, _, told in looked_at):
            break
        last = looked_at[-1][0]
        number += _delete(rows, [pk for pk, created, _ in looked_at if created < before])
    return number


def _delete(rows: "QuerySet[Delivery] | QuerySet[Outbox]", old: list[int]) -> int:
    with transaction.atomic():
        free = rows.filter(pk__in=old).select_for_update(skip_locked=True, of=("self",))
        return rows.filter(pk__in=list(free.values_list("pk", flat=True))).delete()[0]
