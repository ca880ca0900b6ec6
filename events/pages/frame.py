"""What all pages share: refusals become pages, and the browser is told what it may load."""

import math
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.cache import add_never_cache_headers

from events.errors import Refusal, Unavailable
from events.models import Event

View = Callable[..., HttpResponseBase]

# Scripts, styles and pictures of our own only, no inline script, in nobody's frame.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'"
)

# The status of a page for each code of a refusal, as the API has it.
STATUS = {
    "not_found": HTTPStatus.NOT_FOUND,
    "invalid": HTTPStatus.BAD_REQUEST,
    "closed": HTTPStatus.FORBIDDEN,
    "paused": HTTPStatus.FORBIDDEN,
    "not_open": HTTPStatus.FORBIDDEN,
    "not_admitted": HTTPStatus.FORBIDDEN,
    "sold_out": HTTPStatus.CONFLICT,
    "already_claimed": HTTPStatus.CONFLICT,
    "already_confirmed": HTTPStatus.CONFLICT,
    "not_held": HTTPStatus.CONFLICT,
    "rate_limited": HTTPStatus.TOO_MANY_REQUESTS,
    "unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
}


def page(view: View) -> View:
    """Make a view a page: a refusal, and a database that cannot be reached, are told in words."""

    @wraps(view)
    def framed(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        try:
            response = view(request, *args, **kwargs)
        except Refusal as refusal:
            response = refused(request, refusal)
        except (OperationalError, InterfaceError):
            # Without the head of the page: who is signed in is in the database as well.
            response = refused(request, Unavailable(), bare=True)
        return with_policy(response)

    return framed


def with_policy(response: HttpResponseBase) -> HttpResponseBase:
    """The response, with the Content-Security-Policy of our pages."""
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return response


def refused(
    request: HttpRequest,
    refusal: Refusal,
    *,
    event: Event | None = None,
    key: str = "",
    quantity: int = 1,
    bare: bool = False,
) -> HttpResponse:
    """The page that says what stands in the way and what to do.

    With `event` and `key` the page offers to send the same claim again where that may help: under the same key, so that
    a claim whose answer was lost is found and not made twice. It is of `quantity` units.
    """
    seconds = math.ceil(getattr(refusal, "retry_after", 0))
    again = {"event": event, "key": key, "quantity": quantity}
    context = {"refusal": refusal, "seconds": max(1, seconds), "bare": bare, **again}
    response = render(request, "pages/refused.html", context, status=STATUS[refusal.code])
    add_never_cache_headers(response)  # a refusal is for who asked, and for now
    if hasattr(refusal, "retry_after"):
        response.headers["Retry-After"] = str(max(1, seconds))
    return response
