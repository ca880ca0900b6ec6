"""The composition root: settings, URLs, Celery, health, metrics. It may import every app; none imports it."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
