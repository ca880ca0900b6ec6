"""Answers of the REST API as values: status, body and headers, whichever lane then writes them as HTTP.

Two lanes serve the API, Django's views and the gate. What they say is made here, and above here, once.
"""

from collections.abc import Mapping
from types import MappingProxyType

from django.http import HttpResponse

from notifications.plain import dumps

__all__ = ["JSON", "Answer", "dumps"]

JSON = "application/json"
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
NO_CONTENT = frozenset({204, 304})


class Answer:
    """What a caller is told. `headers` are those of this answer; what all answers bear, the lane adds.

    One may be given to many callers; it does not change.
    """

    __slots__ = ("_raw_headers", "body", "headers", "media_type", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        headers: Mapping[str, str] = NO_HEADERS,
        media_type: str = JSON,
        raw_headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        """With `raw_headers`, all there are, it is for a lane that writes those and looks at no others."""
        self.status = status
        self.body = body
        self.headers = headers
        self.media_type = media_type
        self._raw_headers = raw_headers

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """Its headers with those of its body, as ASGI has them. Not to be kept by anyone, unless they say otherwise."""
        if self._raw_headers is None:
            raw = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
            if not self.has_no_content:
                raw.append((b"content-type", self.media_type.encode()))
                raw.append((b"content-length", b"%d" % len(self.body)))
            if "Cache-Control" not in self.headers:
                raw.append((b"cache-control", b"no-store"))
            self._raw_headers = raw
        return self._raw_headers

    def as_response(self) -> HttpResponse:
        """The answer as a view, or a middleware, returns it."""
        if self.has_no_content:
            response = HttpResponse(status=self.status, headers=self.headers)
            del response.headers["Content-Type"]
            return response
        headers = {**self.headers, "Content-Length": str(len(self.body))}
        return HttpResponse(self.body, status=self.status, content_type=self.media_type, headers=headers)

    @property
    def has_no_content(self) -> bool:
        """Whether there is no body, not even an empty one: 204 and 304."""
        return self.status in NO_CONTENT
