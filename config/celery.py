"""The Celery application. Its messages are nudges: the claim log, not the broker, holds what must not be lost."""

import os

from celery import Celery
from kombu.transport import redis

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# A worker that loses its broker in the midst of a task puts back what it had not acknowledged, and acknowledges it
# afterwards, both by a connection that is gone; kombu 5.7 ends it for either. Messages are nudges: nothing needs to be
# put back, nor to be acknowledged (`ack_emulation` in the settings).
redis.Channel.do_restore = False

app = Celery("seonchak")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
