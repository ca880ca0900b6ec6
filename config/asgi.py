"""The `gate` process: the endpoints of a rush over ASGI, and Django for everything else."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

django = get_asgi_application()

from config.gate import Gate  # noqa: E402 - it needs Django's apps

application = Gate(django)
