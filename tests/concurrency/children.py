"""Child processes of tests: the project in a process of its own, on the servers and the database of the test."""

import os

from django.conf import settings

from tests.servers import ROOT


def environment(**more: str) -> dict[str, str]:
    """The environment of a child: that of the test, but with the test's database."""
    before, _, after = os.environ["DATABASE_URL"].partition("?")
    server, _, _ = before.rpartition("/")
    return {
        **os.environ,
        "DATABASE_URL": f"{server}/{settings.DATABASES['default']['NAME']}?{after}",
        "PYTHONPATH": str(ROOT),
        "PROMETHEUS_MULTIPROC_DIR": "",  # as in tests.servers: the settings have taken it out here
        **more,
    }
