"""The composition root as a Django app: it wires what only the whole knows."""

from celery.signals import task_postrun, task_retry, worker_process_init, worker_process_shutdown, worker_ready
from django.apps import AppConfig


class ConfigApp(AppConfig):
    """Sets logging up when Django starts, and listens to what Celery tells of its workers."""

    name = "config"
    label = "config"

    def ready(self) -> None:
        """Logging first: everything after it may log."""
        from config import collector, connections, exporter, logs, metrics  # noqa: PLC0415 - the models they need are there only now
        from coupons.standby import standby  # noqa: PLC0415

        logs.configure()
        task_postrun.connect(connections.give_back)
        task_retry.connect(metrics.count_retry)
        worker_ready.connect(exporter.start)
        worker_process_init.connect(collector.spare)
        worker_process_init.connect(standby.start)
        worker_process_shutdown.connect(standby.stop)
