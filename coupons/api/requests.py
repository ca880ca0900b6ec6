"""What the API reads from a request of claims, for both lanes."""

import re

from events.errors import Invalid

# Printable ASCII, up to 255 signs. HTTP takes the spaces off both ends, so there are none.
IDEMPOTENCY_KEY = r"^[!-~]([ -~]{0,253}[!-~])?$"
_idempotency_key = re.compile(IDEMPOTENCY_KEY.strip("^$"))


def idempotency_key(header: str | None) -> str:
    """The Idempotency-Key, "" where there is none; `Invalid` for what is no key."""
    if header is None:
        return ""
    if not _idempotency_key.fullmatch(header):
        raise Invalid({"Idempotency-Key": ["1 to 255 printable ASCII characters."]})
    return header
