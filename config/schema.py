"""The OpenAPI description: what drf-spectacular finds in the views, and the problems that each operation may answer.

A view names those of its own by the extension `x-refusals`; what follows from its form (a token, a body, an id in the
path) is added here.
"""

from functools import cache
from typing import Any, Literal

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent

from config import problems
from coupons.api.serializers import ClaimSerializer
from events.answers import JSON, dumps

RETRY_AFTER = {"description": "Seconds to wait.", "required": True, "schema": {"type": "integer", "minimum": 1}}
CHALLENGE = {"required": True, "schema": {"type": "string"}}
HEADERS = {401: {"WWW-Authenticate": CHALLENGE}, 429: {"Retry-After": RETRY_AFTER}, 503: {"Retry-After": RETRY_AFTER}}
FIELD_ERRORS = {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}}
MOMENT = {"type": "string", "format": "date-time"}


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How a token is sent."""

    target_class = "config.tokens.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:  # noqa: ARG002
        """The scheme."""
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class ProblemSchema(AutoSchema):
    """An operation and its problems, a schema for each code."""

    def _get_response_bodies(self, direction: Literal["request", "response"] = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        by_status: dict[int, list[str]] = {}
        for code in self._codes():
            by_status.setdefault(problems.KINDS[code].status, []).append(code)
        for status, codes in sorted(by_status.items()):
            bodies[str(status)] = self._response(status, codes)
        return bodies

    def _codes(self) -> set[str]:
        codes = {"not_acceptable", "unavailable", "error", *(self.get_extensions() or {}).get("x-refusals", ())}
        if self.view.get_authenticators():
            codes.add("unauthenticated")
        if self.method in {"POST", "PUT"}:
            codes |= {"invalid", "too_large", "unsupported_media_type"}
        if "{" in self.path:
            codes.add("not_found")
        if self._is_list_view() and self._get_paginator():  # type: ignore[no-untyped-call]
            codes |= {"invalid", "not_found"}
        return codes

    def _response(self, status: int, codes: list[str]) -> dict[str, Any]:
        refs = {code: self._component(code).ref for code in sorted(codes)}
        schema: dict[str, Any] = next(iter(refs.values()))
        if len(refs) > 1:
            mapping = {code: ref["$ref"] for code, ref in refs.items()}
            schema = {
                "oneOf": list(refs.values()),
                "discriminator": {"propertyName": "code", "mapping": mapping},
            }
        response: dict[str, Any] = {
            "description": ". ".join(problems.KINDS[code].title for code in refs) + ".",
            "content": {problems.MEDIA_TYPE: {"schema": schema}},
        }
        if status in HEADERS:
            response["headers"] = HEADERS[status]
        return response

    def _component(self, code: str) -> ResolvedComponent:
        kind = problems.KINDS[code]
        properties: dict[str, Any] = {
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer", "minimum": kind.status, "maximum": kind.status},
            "detail": {"type": "string"},
            "code": {"type": "string", "enum": [code]},
        }
        required = list(properties)
        if code in {"already_claimed", "already_confirmed"}:
            properties["claim"] = self.resolve_serializer(ClaimSerializer, "response").ref
            required.append("claim")
        elif code in {"not_open", "paused", "closed"}:
            properties["opens_at"] = MOMENT
            required.append("opens_at")
        elif code == "not_admitted":
            properties["queue"] = {"type": "string", "format": "uri-reference"}
            required.append("queue")
        elif code == "invalid":
            properties["errors"] = FIELD_ERRORS
        name = "".join(word.capitalize() for word in code.split("_")) + "Problem"
        component = ResolvedComponent(  # type: ignore[no-untyped-call]
            name=name,
            type=ResolvedComponent.SCHEMA,
            object=name,
            schema={"type": "object", "title": kind.title, "properties": properties, "required": required},
        )
        self.registry.register_on_missing(component)
        return component


@require_safe
def schema(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """The description as JSON."""
    response = HttpResponse(_document(), content_type=JSON)
    response["Cache-Control"] = "public, max-age=60"
    return response


@cache
def _document() -> bytes:
    generator = SchemaGenerator()  # type: ignore[no-untyped-call]
    return dumps(generator.get_schema(request=None, public=True))  # type: ignore[no-untyped-call]
