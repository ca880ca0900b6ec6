"""The gate's queue for Django's threads: so many wait, and who comes beyond is told so at once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from config.as_wsgi import WAITING, AsWsgi, Receive, Scope, Send
from config.gate import Gate, _too_many

THREADS, PLACES = 2, 3
PAGE, OF_API = "/events/sale-1", "/api/v1/me/coupons"


@pytest.fixture(autouse=True)
def no_page_is_made() -> Iterator[None]:
    _too_many.cache_clear()
    yield
    _too_many.cache_clear()


class Django:
    """Serves when it is let go, and not before; notes how many it has at a time."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.now = self.most = 0

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI has it
        self.now += 1
        self.most = max(self.most, self.now)
        await self.gate.wait()
        self.now -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})


class Asker:
    """Asks, and keeps what comes."""

    def __init__(self, gate: Gate, path: str = PAGE, method: str = "GET") -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        scope = {"type": "http", "method": method, "path": path, "headers": [(b"host", b"localhost")]}
        self.task = asyncio.ensure_future(gate(scope, self._receive, self._send))

    async def _receive(self) -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        self.headers |= dict(message.get("headers", []))
        self.body += message.get("body", b"")


@asynccontextmanager
async def full(settings: Any, *, waiting: int = PLACES) -> AsyncIterator[tuple[Gate, Django, list[Asker]]]:
    """A gate whose threads are taken, and whose places to wait as well."""
    settings.GATE_DJANGO_THREADS = THREADS
    django = Django()
    gate = Gate(AsWsgi(django, waiting=waiting))
    first = [Asker(gate) for _ in range(THREADS + PLACES)]
    await turns()
    try:
        yield gate, django, first
    finally:
        django.gate.set()
        await asyncio.gather(*(asker.task for asker in first))


async def turns() -> None:
    """What can be done without waiting for anything is done."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_who_finds_no_place_is_refused_at_once_and_the_others_are_served(settings: Any) -> None:
    async def scenario() -> None:
        async with full(settings) as (gate, django, first):
            page, of_api, head = Asker(gate), Asker(gate, OF_API), Asker(gate, method="HEAD")
            await turns()
            assert [one.status for one in (page, of_api, head)] == [503] * 3
            assert {one.status for one in first} == {0}
            django.gate.set()
            await asyncio.gather(*(one.task for one in first))
            assert {(one.status, one.body) for one in first} == {(200, b"served")}
            assert django.most == THREADS
            later = Asker(gate)
            await later.task
            assert later.status == 200

            assert orjson.loads(of_api.body)["code"] == "unavailable"
            assert of_api.headers[b"content-type"] == b"application/problem+json"
            assert page.headers[b"content-type"] == b"text/html; charset=utf-8"
            assert "사람이 너무 많이 몰렸습니다" in page.body.decode()
            for one in (page, of_api, head):
                assert one.headers[b"retry-after"] == b"1"
                assert one.headers[b"cache-control"] == b"no-store"
                assert one.headers[b"x-content-type-options"] == b"nosniff"
                assert one.headers[b"x-request-id"]
            assert head.body == b""
            assert int(head.headers[b"content-length"]) == len(page.body)

    settings.DEFAULT_LANGUAGE = "ko"
    asyncio.run(scenario())


def test_who_hangs_up_while_waiting_gives_the_place_back(settings: Any) -> None:
    async def scenario() -> None:
        async with full(settings) as (gate, _, first):
            first.pop().task.cancel()
            await turns()
            next_one = Asker(gate)
            first.append(next_one)
            await turns()
            assert next_one.status == 0, "it waits in the place that is free again"

    asyncio.run(scenario())


def test_without_the_bound_all_wait(settings: Any) -> None:
    async def scenario() -> None:
        async with full(settings, waiting=WAITING) as (gate, _, first):
            first.append(Asker(gate))
            await turns()
            assert first[-1].status == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("language", ["ko", "en"])
def test_the_page_is_in_the_language_of_most(settings: Any, language: str) -> None:
    settings.DEFAULT_LANGUAGE = language
    assert f'<html lang="{language}">' in _too_many().body.decode()
