"""The settings as mypy's plugin reads them: it needs their types and connects to nothing."""

import os

os.environ.setdefault("SECRET_KEY", "types-only-" + "x" * 40)
os.environ.setdefault("DATABASE_URL", "postgresql://localhost/none")
for _name in ("STOCK_REDIS_URL", "CACHE_URL", "BROKER_URL"):
    os.environ.setdefault(_name, "redis://localhost:1/0")

from config.settings import *  # noqa: E402, F403
