"""What the tests of the API share: a caller with a token, and a count of what goes to Redis."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt
from django.conf import settings
from django.test import Client
from redis.connection import AbstractConnection
from rest_framework_simplejwt.tokens import RefreshToken

from config import problems


def token_of(user: Any) -> str:
    return str(RefreshToken.for_user(user).access_token)


def forge(*, key: str = "", algorithm: str = "HS256", **claims: Any) -> str:
    """A token with these claims; what is None is left out."""
    claims = {"token_type": "access", "user_id": 1, "exp": time.time() + 60, **claims}
    claims = {name: value for name, value in claims.items() if value is not None}
    signing_key: Any = None if algorithm == "none" else key or settings.SIGNING_KEY
    return jwt.encode(claims, signing_key, algorithm=algorithm)


class Caller:
    """Somebody who uses the API: a user, the bearer of a token, or nobody."""

    def __init__(self, user: Any = None, *, token: str = "") -> None:
        self.client = Client(raise_request_exception=False)
        self.token = token or (token_of(user) if user is not None else "")

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers=self._headers(headers))

    def post(self, path: str, body: Any = None, *, content_type: str = "application/json", **headers: str) -> Any:
        data = {"data": body, "content_type": content_type} if body is not None else {}
        if body is None:
            return self.client.generic("POST", path, headers=self._headers(headers))
        return self.client.post(path, headers=self._headers(headers), **data)

    def claim(self, event_id: int, key: str | None = None) -> Any:
        return self.post(f"/api/v1/events/{event_id}/claims", **({} if key is None else {"Idempotency_Key": key}))

    def _headers(self, headers: dict[str, str]) -> dict[str, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return ({"Authorization": f"Bearer {self.token}"} if self.token else {}) | named


def problem_of(response: Any, code: str) -> dict[str, Any]:
    """The body, held to be the problem of this code and of its status."""
    kind = problems.KINDS[code]
    assert response.headers["Content-Type"] == "application/problem+json", response.content
    body: dict[str, Any] = response.json()
    assert (body["code"], body["status"], response.status_code) == (code, kind.status, kind.status), body
    assert {"type", "title", "status", "detail", "code"} <= set(body)
    assert body["type"].endswith(code)
    assert body["detail"]
    return body


@contextmanager
def redis_round_trips() -> Iterator[list[bytes]]:
    """What this thread sends to Redis, one entry for each time it sends."""
    sent: list[bytes] = []
    thread = threading.get_ident()
    original = AbstractConnection.send_packed_command

    def counting(self: Any, command: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == thread:
            sent.append(b"".join(command) if not isinstance(command, bytes) else command)
        return original(self, command, *args, **kwargs)

    AbstractConnection.send_packed_command = counting  # type: ignore[method-assign]
    try:
        yield sent
    finally:
        AbstractConnection.send_packed_command = original  # type: ignore[method-assign]
