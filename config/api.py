"""What all views of the REST API share: how answers are chosen and written, how bodies are read, how pages are cut.

Named in `REST_FRAMEWORK`, never imported by the apps. Everything here is on the claim path, and lean for that reason.
"""

from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any

import orjson
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.metadata import BaseMetadata
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.pagination import PageNumberPagination as BasePagination
from rest_framework.parsers import JSONParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from events.answers import JSON, dumps

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which loads this module for its settings


class OrjsonRenderer(BaseRenderer):
    """JSON by orjson; `None` is an empty body."""

    media_type = JSON
    format = "json"
    charset = None  # JSON is UTF-8 and says so by itself

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:  # noqa: ARG002
        """The body."""
        return b"" if data is None else dumps(data)


class OrjsonParser(JSONParser):
    """JSON by orjson: strict, and unlike the standard library's not to be exhausted by ten thousand brackets."""

    def parse(self, stream: IO[Any], media_type: str | None = None, parser_context: Any = None) -> Any:  # noqa: ARG002
        """The value; `ParseError` for what is not JSON."""
        try:
            return orjson.loads(stream.read())
        except orjson.JSONDecodeError as error:
            raise ParseError(f"The body is not JSON: {error}.") from error


class JsonNegotiation(DefaultContentNegotiation):
    """The framework's choice, with a short cut for who accepts JSON: nearly everybody."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """The first renderer where it writes JSON and JSON will do; otherwise by the framework's rules."""
        first = next(iter(renderers))
        if first.media_type == JSON and takes_json(request.META.get("HTTP_ACCEPT")):
            return first, JSON
        chosen: tuple[BaseRenderer, str] = super().select_renderer(request, renderers, format_suffix)
        return chosen


def takes_json(accept: str | None) -> bool:
    """Whether an Accept header allows JSON, as nearly all do."""
    if not accept or accept in {"*/*", JSON}:
        return True
    return any(part.split(";", 1)[0].strip() in {"*/*", JSON} for part in accept.split(","))


class NoMetadata(BaseMetadata):
    """OPTIONS answers with the `Allow` header and an empty body: the schema tells the rest."""

    def determine_metadata(self, request: Request, view: "APIView") -> None:
        """Nothing."""


class PageNumberPagination(BasePagination):
    """Pages of 50, up to 200 by `page_size`. What is no number is refused, not passed over."""

    page_size_query_param = "page_size"
    max_page_size = 200
    max_page_number = 10**9
    last_page_strings = ()

    def get_page_size(self, request: Request) -> int:
        """The size asked for, from 1 to 200."""
        return self._number(request, self.page_size_query_param, self.page_size or 50, self.max_page_size)

    def get_page_number(self, request: Request, paginator: Any) -> int:  # noqa: ARG002
        """The page asked for, from 1; the paginator says whether there is one."""
        return self._number(request, self.page_query_param, 1, self.max_page_number)

    def get_schema_operation_parameters(self, view: "APIView") -> list[dict[str, Any]]:
        """The two query parameters, with their bounds."""
        page, size = super().get_schema_operation_parameters(view)
        page["schema"] |= {"minimum": 1, "maximum": self.max_page_number, "default": 1}
        size["schema"] |= {"minimum": 1, "maximum": self.max_page_size, "default": self.page_size}
        return [page, size]

    @staticmethod
    def _number(request: Request, name: str, default: int, high: int) -> int:
        raw = request.query_params.get(name)
        if raw is None:
            return default
        number = int(raw) if raw.isascii() and raw.isdigit() and len(raw) <= len(str(high)) else 0
        if not 1 <= number <= high:
            raise ValidationError({name: [f"A whole number from 1 to {high}."]})
        return number
