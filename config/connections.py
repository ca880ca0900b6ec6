"""The database connections of Celery's processes: each task takes one from the pool, and gives it back."""

from typing import Any

from celery import Task
from django.db import connections


def give_back(sender: "Task[Any, Any]", **_: Any) -> None:
    """Celery's signal `task_postrun`. A task that runs within its caller leaves the caller's connection alone."""
    if not sender.request.is_eager:
        connections.close_all()
