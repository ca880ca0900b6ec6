"""The composition root as a Django app: it wires what only the whole knows."""

from celery.signals import task_retry
from django.apps import AppConfig


class ConfigApp(AppConfig):
    """Sets logging up when Django starts, and counts what Celery tries again."""

    name = "config"
    label = "config"

    def ready(self) -> None:
        """Logging first: everything after it may log."""
        from config import logs, metrics  # noqa: PLC0415 - the models they need are there only now

        logs.configure()
        task_retry.connect(metrics.count_retry)
