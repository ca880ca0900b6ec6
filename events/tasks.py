"""Celery tasks. Each is thin. Losing their messages loses nothing: the next one does what was left."""

import structlog
from celery import shared_task
from django.db import InterfaceError, OperationalError

from events import reminders
from events.waiting_room import checkpoint
from events.waiting_room.store import bulk_room_store

log = structlog.get_logger(__name__)


@shared_task
def sweep_rooms() -> None:
    """Every hour: forget the tickets of sales that are long over."""
    checkpoint.sweep()


@shared_task
def checkpoint_rooms() -> None:
    """Every second: have the database know the order of all waiting rooms."""
    try:
        checkpoint.checkpoint_all(bulk_room_store())
    except (OperationalError, InterfaceError) as error:
        log.warning("checkpoint_failed", error=type(error).__name__)  # the next one comes in a second


@shared_task
def remind() -> None:
    """Every ten seconds: tell those whose event opens soon."""
    try:
        reminders.remind()
    except (OperationalError, InterfaceError) as error:
        log.warning("remind_failed", error=type(error).__name__)  # the next one comes in ten seconds
