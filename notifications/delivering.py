"""Delivering: rows into messages, outside of the transactions that write notifications.

Three steps, each safe to be repeated or to be killed in. *Fan out*: notifications of the outbox become deliveries, one
for each target. *Take*: due deliveries of a channel are leased, so that two workers take different ones. *Send*: the
channel tries them, and what came of it is noted. A worker that dies between sending and noting has sent what will be
sent again when the lease is over: at least once, and `Delivery.dedupe_key` tells.
"""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from notifications.channels import CHANNELS, switched_on
from notifications.channels.base import Channel, Failed, Outcome, Unreachable
from notifications.metrics import DELIVERIES
from notifications.models import Delivery, Notification, Outbox, SilentTarget

log = structlog.get_logger(__name__)

STATEMENTS = 10  # outbox rows that one transaction fans out: up to so many thousand notifications
RUN = 20.0  # seconds that a run goes on taking more
LEASE = timedelta(minutes=2)  # well beyond what a channel's `send` can take
LONGEST_PAUSE = timedelta(hours=1)  # between two tries of a delivery
LONGEST_SILENCE = timedelta(minutes=5)  # between two looks whether a target is back

Status = Delivery.Status

FAN_OUT = """
INSERT INTO notifications_delivery
    (notification_id, channel, target, status, attempts, next_try_at, error, created_at)
SELECT told.notification_id, %(channel)s, told.target, 'pending', 0, %(now)s, '', notification.created_at
FROM unnest(%(notifications)s::bigint[], %(targets)s::text[]) AS told (notification_id, target)
JOIN notifications_notification AS notification ON notification.id = told.notification_id
ON CONFLICT (notification_id, channel, target) DO NOTHING
"""

OLDEST = """
SELECT id FROM notifications_delivery
WHERE status = 'pending' AND channel = %(channel)s AND next_try_at <= %(now)s
ORDER BY next_try_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED
"""
# The same number of each target: who has much to come does not keep the others waiting.
OLDEST_OF_EACH = """
SELECT one.id FROM unnest(%(targets)s::text[]) AS known (target) CROSS JOIN LATERAL (
    SELECT id FROM notifications_delivery
    WHERE status = 'pending' AND channel = %(channel)s AND target = known.target AND next_try_at <= %(now)s
    ORDER BY next_try_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED
) AS one
"""

WAITING = """
SELECT channel FROM unnest(%(channels)s::text[]) AS one (channel)
WHERE EXISTS (
    SELECT FROM notifications_delivery AS delivery
    WHERE delivery.status = 'pending' AND delivery.channel = one.channel AND delivery.next_try_at <= %(now)s
)
"""

AGES = """
SELECT one.channel, extract(epoch FROM now() - (
    SELECT min(created_at) FROM notifications_delivery WHERE status = 'pending' AND channel = one.channel
)) FROM unnest(%(channels)s::text[]) AS one (channel)
"""


def fan_out() -> int:
    """Make deliveries of what is in the outbox, for a while; how many notifications it was.

    There is one run in a process at a time: with every thread at it, nothing would be sent meanwhile.
    """
    number = 0
    with _its_share(FANNING_OUT) as is_ours:
        until = time.monotonic() + RUN
        while is_ours and time.monotonic() < until and (fanned_out := _fan_out_some()):
            number += fanned_out
    return number


def waiting() -> list[str]:
    """The channels that something is due for."""
    with connection.cursor() as cursor:
        cursor.execute(WAITING, {"channels": [one.name.value for one in switched_on()], "now": timezone.now()})
        return [name for (name,) in cursor.fetchall()]


def ages() -> dict[str, float]:
    """How long the oldest delivery of each channel waits, in seconds; 0 where none does."""
    with connection.cursor() as cursor:
        cursor.execute(AGES, {"channels": [one.name.value for one in switched_on()]})
        return {channel: float(age or 0) for channel, age in cursor.fetchall()}


def outbox_age() -> float:
    """How long the oldest notifications of the outbox wait to be fanned out, in seconds; 0 where none do."""
    oldest = Outbox.objects.order_by("pk").values_list("created_at", flat=True).first()
    return (timezone.now() - oldest).total_seconds() if oldest else 0.0


def deliver(name: str) -> int:
    """Send what is due by a channel, for a while; how many were sent.

    A channel has one run in a process at a time: where it hangs, it is not the others who wait for it.
    """
    channel = CHANNELS[name]
    sent = 0
    with _its_share(name) as is_ours:
        until = time.monotonic() + RUN
        while is_ours and time.monotonic() < until and (taken := _take(channel)):
            sent += _try(channel, taken)
    return sent


def replay(deliveries: "QuerySet[Delivery]") -> int:
    """Have deliveries sent again, as if they were new; how many there are. Receivers know them by the same key."""
    now = timezone.now()
    with transaction.atomic():
        for channel, target in deliveries.order_by().values_list("channel", "target").distinct():
            SilentTarget.objects.filter(channel=channel, target=target).delete()
        return deliveries.update(
            status=Status.PENDING, attempts=0, next_try_at=now, error="", created_at=now, finished_at=None
        )


# --- Fan out ----------------------------------------------------------------------------------------------------------


def _fan_out_some() -> int:
    with transaction.atomic():
        outbox = list(Outbox.objects.order_by("pk").select_for_update(skip_locked=True)[:STATEMENTS])
        if not outbox:
            return 0
        ids = [pk for one in outbox for pk in one.notifications]
        notifications = list(Notification.objects.filter(pk__in=ids, user__is_active=True).select_related("user"))
        now = timezone.now()
        with connection.cursor() as cursor:
            for channel in switched_on():
                targets = list(channel.targets(notifications))
                told: dict[str, Any] = {"channel": channel.name.value, "now": now}
                told |= {"notifications": [pk for pk, _ in targets], "targets": [target for _, target in targets]}
                cursor.execute(FAN_OUT, told)
        Outbox.objects.filter(pk__in=[one.pk for one in outbox]).delete()
        return len(ids)


# --- Take -------------------------------------------------------------------------------------------------------------

FANNING_OUT = "fan_out"
_shares = {name: threading.Lock() for name in (*CHANNELS, FANNING_OUT)}


@contextmanager
def _its_share(name: str) -> Iterator[bool]:
    taken = _shares[name].acquire(blocking=False)
    try:
        yield taken
    finally:
        if taken:
            _shares[name].release()


def _take(channel: Channel) -> list[Delivery]:
    now = timezone.now()
    asked: dict[str, Any] = {"channel": channel.name.value, "now": now, "batch": channel.batch}
    targets = channel.known_targets()
    with transaction.atomic(), connection.cursor() as cursor:
        if targets is None:
            cursor.execute(OLDEST, asked)
        else:
            silent = SilentTarget.objects.filter(channel=channel.name, retry_at__gt=now)
            asked["targets"] = list(set(targets) - set(silent.values_list("target", flat=True)))
            cursor.execute(OLDEST_OF_EACH, asked)
        taken = [pk for (pk,) in cursor.fetchall()]
        Delivery.objects.filter(pk__in=taken).update(attempts=F("attempts") + 1, next_try_at=now + LEASE)
    found = Delivery.objects.filter(pk__in=taken).select_related(
        "notification__user", "notification__user__notification_preferences"
    )
    return list(found.order_by("pk"))


# --- Send -------------------------------------------------------------------------------------------------------------


def _try(channel: Channel, taken: Sequence[Delivery]) -> int:
    """Send, and note at once what came of it; how many were sent."""
    now, leased = timezone.now(), _leased(taken)
    hopeless = {one.pk: why for one in taken if (why := _why_not(one, channel, now))}
    _note(leased, [(one, Failed(hopeless[one.pk], permanent=True)) for one in taken if one.pk in hopeless])
    untried = {one.pk: one for one in taken if one.pk not in hopeless}
    silent = {one.target: one for one in SilentTarget.objects.filter(channel=channel.name)}
    sent = 0
    for outcomes in channel.send(list(untried.values())) if untried else ():
        for delivery, failure in outcomes:
            del untried[delivery.pk]
            _note_silence(delivery, failure, silent)
        sent += _note(leased, outcomes)
    # Their lease was a try that did not take place.
    leased.filter(pk__in=untried).update(attempts=F("attempts") - 1, next_try_at=timezone.now())
    return sent


def _leased(taken: Sequence[Delivery]) -> "QuerySet[Delivery]":
    """What still is as it was taken, of what was taken together.

    Who was stopped for longer than the lease finds some in other hands, sent even: that is not theirs to say any more.
    """
    return Delivery.objects.filter(status=Status.PENDING, next_try_at=taken[0].next_try_at)


def _note(leased: "QuerySet[Delivery]", outcomes: Sequence[Outcome]) -> int:
    """Write down what came of deliveries; how many were sent."""
    now = timezone.now()
    sent = [delivery.pk for delivery, failure in outcomes if failure is None]
    if sent:
        Delivery.objects.filter(pk__in=sent).update(status=Status.SENT, error="", finished_at=now)
        DELIVERIES.labels(channel=outcomes[0][0].channel, outcome="sent").inc(len(sent))
    failed = [_fail(delivery, failure, now) for delivery, failure in outcomes if failure is not None]
    if failed:
        leased.bulk_update(failed, ["status", "error", "next_try_at", "finished_at"])
    return len(sent)


def _fail(delivery: Delivery, failure: Failed, now: datetime) -> Delivery:
    delivery.error = str(failure)[:200]
    if failure.permanent or delivery.attempts >= settings.DELIVERY_ATTEMPTS:
        delivery.status, delivery.finished_at = Status.DEAD, now
    else:
        delivery.next_try_at = now + pause(delivery.attempts, longest=LONGEST_PAUSE)
    dead = delivery.status == Status.DEAD
    DELIVERIES.labels(channel=delivery.channel, outcome="dead" if dead else "failed").inc()
    log.warning(
        "delivery_failed",
        channel=str(delivery.channel),
        delivery_id=delivery.pk,
        attempt=delivery.attempts,
        error=delivery.error,
        dead=dead,
    )
    return delivery


def pause(failures: int, *, longest: timedelta) -> timedelta:
    """How long to wait after so many failures: twice as long each time, less up to a half of it by chance.

    Without the chance, what failed together would come back together.
    """
    seconds = min(longest.total_seconds(), settings.DELIVERY_BACKOFF * 2 ** min(failures - 1, 30))
    return timedelta(seconds=seconds * random.uniform(0.5, 1))  # noqa: S311 - no secret hangs on it


def _note_silence(delivery: Delivery, failure: Failed | None, silent: dict[str, SilentTarget]) -> None:
    """Have everything else for a target wait that does not answer, until it does."""
    channel, target = delivery.channel, delivery.target
    if failure is None:
        if silent.pop(target, None):
            SilentTarget.objects.filter(channel=channel, target=target).delete()
    elif isinstance(failure, Unreachable) and CHANNELS[channel].known_targets() is not None:
        failures = silent[target].failures + 1 if target in silent else 1
        retry_at = timezone.now() + pause(failures, longest=LONGEST_SILENCE)
        silent[target], _ = SilentTarget.objects.update_or_create(
            channel=channel, target=target, defaults={"failures": failures, "retry_at": retry_at}
        )


def _why_not(delivery: Delivery, channel: Channel, now: datetime) -> str:
    """Why a delivery is not worth a try; empty where it is."""
    if delivery.attempts > settings.DELIVERY_ATTEMPTS:
        return "every try broke off"  # whoever made them died, of this one perhaps
    if not delivery.notification.user.is_active:
        return "the user is deactivated"
    expires_at = delivery.notification.expires_at
    if now > delivery.created_at + channel.max_age or (expires_at is not None and now > expires_at):
        return "too late"
    return ""
