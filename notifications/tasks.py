"""Celery tasks, on the queue `notifications`. Each is thin; losing all messages loses nothing."""

import structlog
from celery import shared_task
from django.db import InterfaceError, OperationalError

from notifications import delivering, purging

log = structlog.get_logger(__name__)

PASSING = (OperationalError, InterfaceError)


@shared_task
def fan_out() -> None:
    """Every second: make deliveries of new notifications, and see to every channel that something is due for."""
    try:
        delivering.fan_out()
        channels = delivering.waiting()
    except PASSING as error:
        log.warning("fan_out_failed", error=type(error).__name__)  # the next one comes in a second
        return
    for channel in channels:
        deliver.apply_async((channel,), expires=5)


@shared_task
def deliver(channel: str) -> None:
    """Send what is due by a channel."""
    try:
        delivering.deliver(channel)
    except PASSING as error:
        log.warning("deliver_failed", channel=channel, error=type(error).__name__)


@shared_task
def purge() -> None:
    """Every hour: forget deliveries that are long over."""
    try:
        purging.purge()
    except PASSING as error:
        log.warning("purge_failed", error=type(error).__name__)  # the next one comes in an hour
