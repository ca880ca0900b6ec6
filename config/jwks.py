"""The public keys of somebody else who issues our tokens, as they are listed at a URL (RFC 7517).

A thread reads them. Nobody who asks for a key waits for the network.
"""

import threading
import time
from typing import Any

import jwt
import structlog

from events.errors import Unavailable

log = structlog.get_logger(__name__)

TIMEOUT = 5.0  # seconds


class KeySet:
    """The RSA keys at a URL by their `kid`: read when first asked for, every so often, and for a `kid` unheard of.

    Where the URL cannot be read, the keys of the last reading stay.
    """

    def __init__(self, url: str, *, own: Any = None, interval: float = 300.0, pause: float = 5.0) -> None:
        """`own` verifies what names no `kid`. At least `pause` seconds lie between readings, whoever asks for one."""
        self._client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=TIMEOUT)
        self._own = own
        self._interval = interval
        self._pause = pause
        self._keys: dict[str, Any] = {}
        self._read_at = float("-inf")  # by the monotonic clock
        self._wanted = threading.Event()
        self._stop = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def key(self, kid: str | None) -> Any:
        """The key that a token names.

        `jwt.InvalidTokenError` for one that is not listed; `Unavailable` where that is not known yet.
        """
        if kid is None:
            if self._own is None:
                raise jwt.InvalidTokenError("It names no key")
            return self._own
        read_at = self._read_at  # before the look: a reading in between may have brought the key
        key = self._keys.get(kid)
        if key is None:
            self._wanted.set()
            self._ensure_reading()
            if time.monotonic() - read_at > 2 * self._pause:
                raise Unavailable
            raise jwt.InvalidTokenError("It names a key that is not listed")
        return key

    def close(self) -> None:
        """Read no more."""
        self._stop.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def _ensure_reading(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._read_on, name="jwks", daemon=True)
                self._thread.start()

    def _read_on(self) -> None:
        while not self._stop.is_set():
            self._wanted.clear()
            was_read = self._read()
            if not self._stop.wait(self._pause) and was_read:
                self._wanted.wait(self._interval)

    def _read(self) -> bool:
        try:
            keys = {str(one.key_id): one.key for one in self._client.get_signing_keys() if _verifies(one)}
        except Exception as error:  # noqa: BLE001 - whatever an answer from elsewhere brings about, the thread goes on
            log.warning("jwks_not_read", error=type(error).__name__)
            return False
        if not keys:
            log.warning("jwks_without_rsa_key")
            return False
        self._keys = keys
        self._read_at = time.monotonic()
        return True


def _verifies(listed: jwt.PyJWK) -> bool:
    """Whether it is a public key for RS256, and a long one. A list may hold others, for others."""
    return (
        listed.key_type == "RSA"
        and listed.algorithm_name == "RS256"
        and isinstance(listed.key_id, str)
        and not hasattr(listed.key, "public_key")  # a private key that somebody listed is nobody's to trust
        and not listed.Algorithm.check_key_length(listed.key)
    )
