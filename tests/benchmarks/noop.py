"""The ceilings: an ASGI application and a Django view that do nothing but answer as a claim is answered.

With all its headers: each is turned from Python into bytes on the wire.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import re_path

BODY = b'{"id":"1-1-1","event_id":1,"status":"pending","sequence":1,"claimed_at":"2026-01-01T00:00:00.000Z"}'
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Request-ID": "0123456789abcdef",
    "Location": "/api/v1/events/1/claims/1-1-1",
    "Content-Type": "application/json",
    "Content-Length": str(len(BODY)),
    "Cache-Control": "no-store",
}
RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


async def asgi(scope: Mapping[str, Any], receive: Any, send: Callable[[Mapping[str, Any]], Awaitable[None]]) -> None:
    """No work at all."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 202, "headers": RAW_HEADERS})
        await send({"type": "http.response.body", "body": BODY})


def view(request: HttpRequest) -> HttpResponse:
    """No work, by Django."""
    return HttpResponse(BODY, status=202, headers=HEADERS)


urlpatterns = [re_path("", view)]
