"""Answers of the REST API as values: status, body and headers, whichever lane then writes them as HTTP.

Two lanes serve the API, Django's views and the gate. What they say is made here, and above here, once.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from django.http import HttpResponse

from notifications.plain import dumps

__all__ = ["JSON", "Answer", "dumps"]

JSON = "application/json"
NO_CONTENT = frozenset({204, 304})


class Answer(NamedTuple):
    """What a caller is told. `headers` are those of this answer; what all answers bear, the lane adds."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})
    media_type: str = JSON

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
