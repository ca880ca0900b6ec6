"""Middleware of every request: its line in the log, its patience with the database, what caches may keep, its language,
and the guard before the API.
"""

import re
import secrets
import time
from collections.abc import Callable
from io import BytesIO

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.middleware import common
from django.utils import translation
from django.utils.cache import patch_vary_headers
from structlog.contextvars import bind_contextvars, clear_contextvars

from config.postgresql.connection import longest, patience
from config.problems import of_api, problem
from events.pages import languages

log = structlog.get_logger("config.request")

GetResponse = Callable[[HttpRequest], HttpResponse]
NO_CONTENT = 204
NOT_MODIFIED = 304
METHOD_NOT_ALLOWED = 405
OF_OPERATORS = ("/livez", "/readyz", "/metrics")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestLogMiddleware:
    """One line in the log for each request, and an id that all lines of the request bear.

    The line names the route, not the path: no address, no name, no token is in it. What a view binds to structlog's
    context (a claim's id) is.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Serve, then tell."""
        started = time.perf_counter()
        request_id = request.META.get("HTTP_X_REQUEST_ID", "")
        if not REQUEST_ID.fullmatch(request_id):
            request_id = secrets.token_hex(8)
        clear_contextvars()  # the thread has served others before
        bind_contextvars(request_id=request_id)
        response = self.get_response(request)
        response["X-Request-ID"] = request_id
        match = request.resolver_match
        log.info(
            "request",
            method=request.method,
            route=match.route if match else None,
            status=response.status_code,
            duration_ms=round((time.perf_counter() - started) * 1000, 2),
        )
        return response


class DatabasePatienceMiddleware:
    """Bounds how long a request waits for PostgreSQL altogether: `DATABASE_REQUEST_TIMEOUT`.

    The admin's may take as long as a statement can: operators wait for a large sale rather than not to close it.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Serve with that patience."""
        of_admin = request.path.startswith("/admin/")
        with patience(longest() if of_admin else settings.DATABASE_REQUEST_TIMEOUT):
            return self.get_response(request)


class SharedMiddleware:
    """Keeps what is one visitor's own out of answers that any cache may give to anybody.

    Django answers a cookie that it cannot read with a new one, whatever the view: kept, it would become everybody's.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Serve; without cookies, where it is for all."""
        response = self.get_response(request)
        if "public" in response.headers.get("Cache-Control", ""):
            response.cookies.clear()
            vary = [name for name in response.headers.get("Vary", "").split(", ") if name not in {"", "Cookie"}]
            del response.headers["Vary"]
            if vary:
                response.headers["Vary"] = ", ".join(vary)
        return response


class LanguageMiddleware:
    """Answers visitors in their language, and programs in English.

    Django's own would have the API's `detail` hang on a header that the gate does not read. A page that says itself
    which language it is in (the cacheable one) is left alone.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Serve in the language."""
        if of_api(request):
            return self.get_response(request)
        with translation.override(languages.of_visitor(request)):
            response = self.get_response(request)
            if "Content-Language" not in response.headers:
                response.headers["Content-Language"] = translation.get_language()
                patch_vary_headers(response, ("Accept-Language", "Cookie"))
        return response


class CommonMiddleware(common.CommonMiddleware):
    """Django's, which refuses requests for other hosts than ours.

    But operators' machines, which know a process by its address alone: Prometheus asks for a container's, and so do the
    probes of orchestrators. Nothing of what they are answered hangs on the host.
    """

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        """Refuse, or let through."""
        return None if request.path in OF_OPERATORS else super().process_request(request)


class ApiGuardMiddleware:
    """Keeps bodies over `API_BODY_LIMIT` away from the API, whatever their sender says of their length.

    And keeps the API's answers out of caches, but for those that allow it.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Refuse, or let through."""
        if not of_api(request):
            return self.get_response(request)
        request.META.pop("HTTP_COOKIE", None)  # the API knows tokens only: it reads no session, and sets no cookie
        response = self._refusal(request) or self.get_response(request)
        response.headers.setdefault("Cache-Control", "no-store")
        if response.status_code != METHOD_NOT_ALLOWED and request.method != "OPTIONS":
            response.headers.pop("Allow", None)  # the framework tells everybody, and nobody asked
        if response.status_code in (NO_CONTENT, NOT_MODIFIED):
            # Those of a body that is not there: after a 304 a cache would take them for the one it has, and a 204 must
            # not name a length (RFC 9110, 8.6).
            for name in ("Content-Type", "Content-Length"):
                response.headers.pop(name, None)
        return response

    def _refusal(self, request: HttpRequest) -> HttpResponse | None:
        if "HTTP_TRANSFER_ENCODING" in request.META:
            return self._take_chunked(request)
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not (length.isascii() and length.isdigit()):
            return problem("invalid", "The Content-Length is no number.").as_response()
        if len(length) > 9 or int(length) > settings.API_BODY_LIMIT:  # noqa: PLR2004
            return self._too_large()
        # A body longer than it says is cut there by the server and by Django: no more than this is ever read.
        if len(request.body) < int(length):
            return problem("invalid", "The body broke off before its end.").as_response()
        return None

    def _take_chunked(self, request: HttpRequest) -> HttpResponse | None:
        """Read a body of unknown length up to the limit, and put it where Django keeps those it has read."""
        if not request.META.get("wsgi.input_terminated"):
            told = "This server reads no chunked body: send its Content-Length."
            return problem("length_required", told).as_response()
        body = b""
        while len(body) <= settings.API_BODY_LIMIT:
            chunk = request.META["wsgi.input"].read(settings.API_BODY_LIMIT + 1 - len(body))
            if not chunk:
                request.META["CONTENT_LENGTH"] = str(len(body))
                request._body = body
                request._stream = BytesIO(body)
                return None
            body += chunk
        return self._too_large()

    @staticmethod
    def _too_large() -> HttpResponse:
        return problem("too_large", f"A body may be of {settings.API_BODY_LIMIT} bytes at most.").as_response()
