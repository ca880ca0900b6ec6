"""The settings for what connects to nothing: mypy's plugin wants their types, the check of migrations the models."""

import os

os.environ.setdefault("SECRET_KEY", "types-only-" + "x" * 40)
os.environ.setdefault("DATABASE_URL", "postgresql://localhost/none")
for _name in ("STOCK_REDIS_URL", "CACHE_URL", "BROKER_URL"):
    os.environ.setdefault(_name, "redis://localhost:1/0")

from config.settings import *  # noqa: E402, F403

DATABASES = {"default": {"ENGINE": "django.db.backends.dummy"}}
