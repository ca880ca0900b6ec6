"""Requests that Django serves over ASGI, in the form in which it gets them over WSGI, so that it answers alike.

Django's ASGI handler writes a body of any size to the disk before anybody can look at it, cannot read one that comes
in chunks through its request, and sees header values that the server keeps from WSGI applications.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings

from config.problems import is_api
from events.errors import Unavailable

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

WAITING = 1000  # that wait for a thread, of each kind of threads in a gate


class AsWsgi:
    """An ASGI application that hands on to another: so many at once, while so many wait, and `Unavailable` beyond.

    Of the API's bodies it takes no more than `API_BODY_LIMIT`, and before it has a place: who sends slowly has none.
    """

    def __init__(self, application: Application, *, waiting: int = WAITING) -> None:
        self._application = application
        # Django has a thread for each request, and makes as many as it is asked for.
        self._threads = asyncio.Semaphore(settings.GATE_DJANGO_THREADS)
        self._limit = settings.GATE_DJANGO_THREADS + waiting
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope. Raises `Unavailable` where too many wait, and has answered nothing then."""
        if scope["type"] == "http":
            headers = _headers(scope)
            if is_api(scope["path"]):
                body, is_whole = await _body(headers, receive)
                # Half a body is refused, and whoever sent it may be there to hear so.
                receive = given(body, receive if is_whole else _never)
            scope = {**scope, "headers": list(headers.items())}
            if self._under_way >= self._limit:
                raise Unavailable
        self._under_way += 1
        try:
            async with self._threads:
                await self._application(scope, receive, send)
        finally:
            self._under_way -= 1


def _headers(scope: Scope) -> dict[bytes, bytes]:
    """One of each name: joined, but for the type of the body, which is the first. What is not ASCII is nothing."""
    headers: dict[bytes, bytes] = {}
    for name, sent in scope["headers"]:
        value = sent if sent.isascii() else b""
        if name not in headers:
            headers[name] = value
        elif name != b"content-type":
            headers[name] += (b"; " if name == b"cookie" else b",") + value
    return headers


async def _body(headers: dict[bytes, bytes], receive: Receive) -> tuple[bytes, bool]:
    """The body and whether it is whole; its length goes into the headers.

    Of one that is too long there is nothing, of one that broke off less than its length says: the guard refuses both.
    """
    limit = settings.API_BODY_LIMIT
    in_chunks = headers.pop(b"transfer-encoding", None) is not None
    length = headers.get(b"content-length", b"0")
    if not in_chunks and not (length.isdigit() and len(length) < 10 and int(length) <= limit):  # noqa: PLR2004
        return b"", True
    body, more, is_whole = b"", True, True
    while more and len(body) <= limit:
        message = await receive()
        is_whole = message["type"] == "http.request"
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if in_chunks:
        headers[b"content-length"] = b"%d" % (len(body) + (not is_whole))
    return (body if len(body) <= limit else b""), is_whole


async def _never() -> Message:
    message: Message = await asyncio.get_running_loop().create_future()
    return message


def given(body: bytes, receive: Receive) -> Receive:
    """`receive` for who is to get this body, and then nothing but the end of the connection."""
    unread = [body]

    async def receive_given() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        while (message := await receive())["type"] != "http.disconnect":
            pass
        return message

    return receive_given
