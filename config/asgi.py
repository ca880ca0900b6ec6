"""The `gate` process: the endpoints of a rush over ASGI, and Django for everything else."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

django = get_asgi_application()

from config.as_wsgi import AsWsgi  # noqa: E402 - they need Django's apps
from config.gate import Gate  # noqa: E402

application = Gate(AsWsgi(django))
