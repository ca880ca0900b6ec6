"""The Celery application. Its messages are nudges: the claim log, not the broker, holds what must not be lost."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("seonchak")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
