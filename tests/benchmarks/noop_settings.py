"""Django with one view and no middleware."""

import os

SECRET_KEY = os.environ["SECRET_KEY"]
ROOT_URLCONF = "tests.benchmarks.noop"
ALLOWED_HOSTS = ["*"]
