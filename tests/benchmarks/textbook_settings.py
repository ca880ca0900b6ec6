"""The project's settings with the textbook's claim path in place of ours."""

from config.settings import *  # noqa: F403

ROOT_URLCONF = "tests.benchmarks.textbook_urls"
