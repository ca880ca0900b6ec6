"""The composition root as a Django app: it wires what only the whole knows."""

from django.apps import AppConfig


class ConfigApp(AppConfig):
    """Sets logging up when Django starts."""

    name = "config"
    label = "config"

    def ready(self) -> None:
        """Logging first: everything after it may log."""
        from config import logs

        logs.configure()
