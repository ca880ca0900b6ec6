"""Problem details (RFC 9457): the only place where a refusal, or an error, becomes HTTP.

Each code has one status. `detail` is written for a person; a program goes by `code`, which never changes its meaning.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import structlog
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from redis.exceptions import RedisError
from rest_framework.exceptions import APIException, NotAuthenticated, Throttled, ValidationError

from config.tokens import CHALLENGE, Unauthenticated
from events.answers import Answer, dumps
from events.errors import Invalid, Refusal, Unavailable

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
UNAUTHENTICATED = 401
Headers = dict[str, str]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a code stands for."""

    status: int
    title: str


KINDS = {
    "invalid": Kind(400, "The request is not valid"),
    "unauthenticated": Kind(401, "Who asks is not known"),
    "forbidden": Kind(403, "This is not allowed"),
    "not_open": Kind(403, "The sale has not opened"),
    "closed": Kind(403, "The sale is over"),
    "paused": Kind(403, "The sale is paused"),
    "not_admitted": Kind(403, "It is not your turn"),
    "not_found": Kind(404, "There is no such thing"),
    "method_not_allowed": Kind(405, "Not with this method"),
    "not_acceptable": Kind(406, "Not in any form that is accepted"),
    "already_claimed": Kind(409, "Claimed already"),
    "sold_out": Kind(409, "Sold out"),
    "already_confirmed": Kind(409, "Confirmed already"),
    "hold_expired": Kind(409, "The hold has expired"),
    "hold_cancelled": Kind(409, "The hold was cancelled"),
    "not_held": Kind(409, "Not held"),
    "length_required": Kind(411, "The length of the body is missing"),
    "too_large": Kind(413, "The body is too large"),
    "unsupported_media_type": Kind(415, "Not a media type that is read"),
    "rate_limited": Kind(429, "Too many requests"),
    "error": Kind(500, "An error of ours"),
    "unavailable": Kind(503, "Not available right now"),
}
# What the framework itself refuses goes by its status.
CODES = {400: "invalid", 401: "unauthenticated", 403: "forbidden", 404: "not_found", 405: "method_not_allowed"}
CODES |= {406: "not_acceptable", 413: "too_large", 415: "unsupported_media_type", 429: "rate_limited"}


def problem(code: str, detail: str, *, headers: Headers | None = None, **fields: Any) -> Answer:
    """The answer for a code. `fields` are those the API names for it beside the five of every problem."""
    kind = KINDS[code]
    body = {
        "type": f"urn:seonchak:problem:{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": code,
        **fields,
    }
    given = dict(headers or {})
    if kind.status == UNAUTHENTICATED:
        given.setdefault("WWW-Authenticate", CHALLENGE)
    return Answer(kind.status, dumps(body), given, MEDIA_TYPE)


@lru_cache(1024)  # a hundred thousand are told within seconds that all is gone
def _plain(code: str, detail: str) -> Answer:
    return problem(code, detail)


def of_error(error: BaseException) -> Answer | None:
    """The problem of an error, whichever lane it was met in. None for one nobody foresaw."""
    match error:
        case Refusal():
            retry_after, fields = getattr(error, "retry_after", None), error.fields()
            if retry_after is None and not fields:
                return _plain(error.code, error.detail)
            headers = {} if retry_after is None else {"Retry-After": _seconds(retry_after)}
            return problem(error.code, error.detail, headers=headers, **fields)
        case OperationalError() | InterfaceError() | RedisError():
            log.warning("unavailable", error=type(error).__name__)
            return of_error(Unavailable())
    return None


def handle_exception(error: Exception, context: dict[str, Any]) -> HttpResponse | None:  # noqa: ARG001
    """The framework's hook: the problem of an exception. None for one nobody foresaw, which `server_error` answers."""
    answer = of_error(error) or _of_framework(error)
    return None if answer is None else answer.as_response()


def unforeseen() -> Answer:
    """For an error that is logged and told nobody."""
    return problem("error", "Something went wrong on our side. It is noted; please try again later.")


def _of_framework(error: Exception) -> Answer | None:
    match error:
        case Http404():
            return problem("not_found", "There is nothing here.")
        case PermissionDenied():
            return problem("forbidden", "You may not do this.")
        case NotAuthenticated():
            return of_error(Unauthenticated())
        case APIException():
            return _of_api_exception(error)
        case BadRequest() | SuspiciousOperation() | UnreadablePostError():
            return problem("invalid", "The request could not be read.")
    return None


def _of_api_exception(error: APIException) -> Answer:
    code = CODES.get(error.status_code, "error")
    if isinstance(error, ValidationError):
        errors = error.detail if isinstance(error.detail, dict) else {"non_field_errors": error.detail}
        return problem("invalid", Invalid(errors).detail, errors=dict(_by_field(errors)))
    headers = {}
    if isinstance(error, Throttled) or code == "rate_limited":
        headers["Retry-After"] = _seconds(getattr(error, "wait", None) or 1)
    return problem(code, str(error.detail), headers=headers)


def _by_field(errors: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """The errors of each field; one within another field is named `other.field`."""
    for name, told in errors.items():
        if isinstance(told, dict):
            yield from _by_field(told, f"{within}{name}.")
        else:
            yield within + name, told


def _seconds(seconds: float) -> str:
    """Whole seconds, rounded up: who waits them has waited long enough."""
    return str(max(1, math.ceil(seconds)))


# --- Where the framework answers before or instead of a view ----------------------------------------------------------


def is_api(path: str) -> bool:
    """Whether what is there answers to programs."""
    return path == "/api" or path.startswith("/api/")


def of_api(request: HttpRequest) -> bool:
    """Whether the answer goes to a program."""
    return is_api(request.path)


@csrf_exempt
def no_such_path(request: HttpRequest, *_: str) -> HttpResponse:  # noqa: ARG001
    """Anything below `/api` that is no endpoint."""
    return problem("not_found", "There is no such endpoint; `/api/docs` lists them.").as_response()


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """What Django itself takes for an attack or a mistake: a foreign Host header, say."""
    if of_api(request):
        return problem("invalid", "The request could not be read.").as_response()
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """A refusal outside the API's views."""
    if of_api(request):
        return problem("forbidden", "You may not do this.").as_response()
    return defaults.permission_denied(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """What nobody foresaw. Django has logged it; the answer tells nothing of it."""
    if of_api(request):
        return unforeseen().as_response()
    return defaults.server_error(request)
