"""The gate: the few endpoints that a rush goes to, over ASGI and without Django's request stack.

It takes the plain requests of its routes, which are nearly all of them, and leaves everything else to Django: other
paths and methods, and requests of an unusual form, which Django knows how to read or to refuse. So both lanes have one
contract, and what is answered here is made by the same functions as there.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from http import HTTPStatus
from itertools import count
from types import MappingProxyType
from typing import Any, TypeVar

import orjson
import structlog
from django.conf import settings
from django.db import connection
from django.http.request import split_domain_port, validate_host
from django.template.loader import render_to_string
from django.utils import translation

from config import collector
from config.api import takes_json
from config.as_wsgi import WAITING, Application, Message, Receive, Scope, Send, given
from config.metrics import gate_requests
from config.middleware import REQUEST_ID
from config.postgresql.connection import patience
from config.problems import is_api, of_error, unforeseen
from config.sockets import Sockets
from config.tally import Tally
from config.tokens import Unauthenticated, caller_of
from coupons.gate import CouponEndpoints
from coupons.live import ClaimPart
from events.answers import Answer
from events.catalogue import catalogue
from events.errors import Unavailable
from events.gate import EventEndpoints, Events, Route, Threads
from events.live import EventFeed
from events.tokens import LAST_LANE
from events.waiting_room.gate import QueueEndpoints
from events.waiting_room.live import TicketPart
from notifications.gate import OwnFeed

log = structlog.get_logger(__name__)

T = TypeVar("T")

_PROCESS = secrets.token_hex(4).encode()  # before the number of a request, so that its id is of no other process
_requests = count(1)

PREFIX = "/api/v1/events/"
NOTHING: Mapping[str, Any] = MappingProxyType({})
KNOWN_HOSTS = KNOWN_PATHS = 1000

# What Django's middleware gives to every answer; not what is for pages only.
_EVERYWHERE = [(b"x-content-type-options", b"nosniff")]
if settings.SECURE_HTTPS:
    _EVERYWHERE.append((b"strict-transport-security", b"max-age=%d" % settings.SECURE_HSTS_SECONDS))


class Pool:
    """Threads for calls that block, and a bound on how many may wait for one: who comes beyond is refused at once."""

    def __init__(self, name: str, *, threads: int, waiting: int, wrap: Callable[[Callable[[], Any]], Any]) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._limit = threads + waiting
        self._wrap = wrap
        self._under_way = 0

    def run(self, function: Callable[..., T], /, *arguments: Any) -> "asyncio.Future[T]":
        """Have the function called in a thread; its result, later. `Unavailable` where too many wait already."""
        if self._under_way >= self._limit:
            raise Unavailable
        self._under_way += 1
        loop = asyncio.get_running_loop()
        call: asyncio.Future[T] = loop.run_in_executor(self._threads, self._wrap, partial(function, *arguments))
        call.add_done_callback(self._done)
        return call

    def _done(self, _: Any) -> None:
        self._under_way -= 1


def _at_once(function: Callable[[], T]) -> T:
    return function()


def _with_database(function: Callable[[], T]) -> T:
    """As in a request of Django's: bounded in time, and its connection given back."""
    try:
        with patience(settings.DATABASE_REQUEST_TIMEOUT):
            return function()
    finally:
        connection.close()


class Gate:
    """The ASGI application. `otherwise` serves what is not for the gate."""

    def __init__(self, otherwise: Application) -> None:
        self._otherwise = otherwise
        self._routes: dict[tuple[str, str, bool], Route] = {}
        self._paths: dict[tuple[str, str], tuple[Route, int, str]] = {}  # found before: a rush goes to a few
        self._hosts: set[bytes] = set()  # ours, as they were written
        redis = Pool("gate-redis", threads=settings.GATE_REDIS_THREADS, waiting=WAITING, wrap=_at_once)
        database = Pool("gate-database", threads=settings.GATE_DATABASE_THREADS, waiting=WAITING, wrap=_with_database)
        threads = Threads(redis.run, database.run)
        self._tally = Tally()
        events = Events(threads)
        coupons = CouponEndpoints(events, threads)
        queue = QueueEndpoints(events, threads)
        for endpoints in (EventEndpoints(events), queue, coupons):
            self._add(endpoints.routes())
        feed = EventFeed(events, [TicketPart(queue), ClaimPart(coupons, threads)])
        self._sockets = Sockets(events=feed, me=OwnFeed(), is_ours=self._is_our_host)

    def _add(self, routes: Iterable[Route]) -> None:
        for route in routes:
            self._routes[route.method, route.name, route.argument] = route
            if route.method == "GET":
                self._routes["HEAD", route.name, route.argument] = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope."""
        if scope["type"] == "websocket":
            return await self._sockets(scope, receive, send)
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        request = self._request(scope)
        if request is None:
            return await self._leave(scope, receive, send)
        if request.length:
            body = await _read(receive)
            if len(body) != request.length or not request.read(body):
                return await self._leave(scope, given(body, receive), send)
        route = request.route
        try:
            if not route.public:
                request.identify()
            told = await route.endpoint(request)
            answer = told if isinstance(told, Answer) else _problem(told, route)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is answered
            answer = _problem(error, route)
        self._tally.add(gate_requests(route.name, answer.status))
        for message in _messages(answer, scope, request.headers):
            await send(message)
        return None

    async def _leave(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have Django serve it, unless too many are waiting for that."""
        try:
            await self._otherwise(scope, receive, send)
        except Unavailable as refusal:
            answer = (of_error(refusal) or unforeseen()) if is_api(scope["path"]) else _too_many()
            self._tally.add(gate_requests("django", answer.status))
            for message in _messages(answer, scope, dict(scope["headers"])):
                await send(message)

    async def _live(self, receive: Receive, send: Send) -> None:
        """The lifespan protocol: before the first request the events are known, and after the last all is counted."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await asyncio.to_thread(_know_the_events)
                self._sockets.end_before_stop()
                collector.spare()
            is_end = message["type"] == "lifespan.shutdown"
            if is_end:
                self._tally.tell()
            await send({"type": f"{message['type']}.complete"})
            if is_end:
                return

    def _request(self, scope: Scope) -> "Request | None":
        """The request, if it is one of the plain ones of our routes."""
        method, path = scope["method"], scope["path"]
        found = self._paths.get((method, path)) or self._find(method, path)
        if found is None:
            return None
        request = Request(scope, *found)
        return request if request.is_plain() and self._is_our_host(request.headers.get(b"host", b"")) else None

    def _find(self, method: str, path: str) -> tuple[Route, int, str] | None:
        if not path.startswith(PREFIX):
            return None
        event, _, tail = path[len(PREFIX) :].partition("/")
        name, slash, argument = tail.partition("/")
        route = self._routes.get((method, name, bool(slash)))
        if route is None or not (event.isascii() and event.isdigit() and len(event) < 19):  # noqa: PLR2004
            return None
        if slash and (not argument or "/" in argument):
            return None
        found = route, int(event), argument
        if not slash and len(self._paths) < KNOWN_PATHS:
            self._paths[method, path] = found
        return found

    def _is_our_host(self, host: bytes) -> bool:
        """Whether Django would serve it; what it would not is left to it to refuse."""
        if host in self._hosts:
            return True
        domain, _ = split_domain_port(host.decode("latin-1"))
        is_ours = bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)
        if is_ours and len(self._hosts) < KNOWN_HOSTS:
            self._hosts.add(host)
        return is_ours


class Request:
    """A request on its way to an endpoint."""

    __slots__ = ("argument", "body", "event_id", "headers", "lane", "length", "route", "scope", "user_id")

    def __init__(self, scope: Scope, route: Route, event_id: int, argument: str) -> None:
        self.scope = scope
        self.route = route
        self.event_id = event_id
        self.argument = argument
        self.user_id = 0
        self.lane = LAST_LANE
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.length = 0
        self.body: Mapping[str, Any] = NOTHING

    def is_plain(self) -> bool:
        """Whether it can be read without Django: JSON or no body at all, no header twice, JSON for an answer."""
        headers = self.headers
        if len(headers) != len(self.scope["headers"]) or b"transfer-encoding" in headers:
            return False
        if b"accept" in headers and not takes_json(self.header(b"accept")):
            return False
        length = headers.get(b"content-length", b"0")
        if length == b"0":
            return True
        if self.route.method != "POST" or not length.isdigit() or len(length) > 9:  # noqa: PLR2004
            return False
        self.length = int(length)
        media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        return media_type == b"application/json" and self.length <= settings.API_BODY_LIMIT

    def read(self, body: bytes) -> bool:
        """Take the body for what it says; whether it is a JSON object."""
        try:
            read = orjson.loads(body)
        except orjson.JSONDecodeError:
            return False
        if isinstance(read, dict):
            self.body = read
            return True
        return False

    def header(self, name: bytes) -> str | None:
        """A header's text, None where it was not sent. What is not ASCII is nothing, as it is for the other lane."""
        value = self.headers.get(name)
        if value is None:
            return None
        return value.decode() if value.isascii() else ""

    def identify(self) -> None:
        """See whose token it bears; `Unauthenticated` without a good one."""
        caller = caller_of(self.header(b"authorization"))
        if caller is None:
            raise Unauthenticated
        self.user_id, self.lane = caller.id, caller.lane


def _messages(answer: Answer, scope: Scope, asked: Mapping[bytes, bytes]) -> tuple[Message, Message]:
    """An answer as ASGI has it, to a request with these headers.

    To the headers of its own come those that Django's middleware gives to every one.
    """
    request_id = asked.get(b"x-request-id")
    if request_id is None or not REQUEST_ID.fullmatch(request_id.decode("latin-1")):
        request_id = b"%b%08x" % (_PROCESS, next(_requests))
    headers = [*_EVERYWHERE, (b"x-request-id", request_id), *answer.raw_headers()]
    body = b"" if scope["method"] == "HEAD" else answer.body
    return (
        {"type": "http.response.start", "status": answer.status, "headers": headers},
        {"type": "http.response.body", "body": body},
    )


def _problem(error: Exception, route: Route) -> Answer:
    answer = of_error(error)
    if answer is None:
        log.error("gate_error", route=route.name, exc_info=error)
        answer = unforeseen()
    return answer


@cache
def _too_many() -> Answer:
    """The page for a visitor who is refused. In the language of most: it is made once, for the first of them."""
    with translation.override(settings.DEFAULT_LANGUAGE):
        page = render_to_string("503.html").encode()
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, page, {"Retry-After": "1"}, "text/html; charset=utf-8")


async def _read(receive: Receive) -> bytes:
    """The body; as long as its Content-Length says, for the server cuts it there."""
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _know_the_events() -> None:
    try:
        catalogue.stay()
    finally:
        connection.close()
