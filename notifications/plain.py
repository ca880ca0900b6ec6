"""JSON as all of ours is written, to whomever it goes."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson


def dumps(data: Any) -> bytes:
    """`data` as JSON, moments as ISO 8601 in UTC with milliseconds."""
    return orjson.dumps(data, default=_plain, option=orjson.OPT_PASSTHROUGH_DATETIME)


def _plain(value: Any) -> str:
    return _moment(value) if isinstance(value, datetime) else str(value)


@lru_cache(1024)  # claims of one group have one moment
def _moment(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
