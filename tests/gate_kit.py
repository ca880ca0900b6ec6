"""What the tests of the gate share: many requests at once, and a Redis that can be held up."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from redis.exceptions import RedisError

from coupons.stock.store import StockStore, bulk_store
from tests.api_kit import forge
from tests.faults.parts import Valkey
from tests.outages import stock_at
from tests.web import Server
from tests.wire import Connection, Reply


@dataclass(frozen=True, slots=True)
class Told:
    """An answer of the API: status, code where it is a problem, and all that it says."""

    status: int
    code: str
    body: Any
    reply: Reply

    @classmethod
    def of(cls, reply: Reply | None) -> "Told":
        """Of an answer that has come."""
        assert reply is not None, "the connection was closed without an answer"
        body: Any = orjson.loads(reply.body) if reply.body else None
        is_problem = reply.header("content-type") == "application/problem+json"
        return cls(reply.status, body["code"] if is_problem else "", body, reply)


def request(method: str, path: str, user: int = 0, *headers: str, body: bytes = b"") -> bytes:
    """A request of a user, or of nobody."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    if user:
        lines.append(f"Authorization: Bearer {forge(user_id=user)}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def claim(event_id: int, user: int, *headers: str, body: bytes = b"") -> bytes:
    """A claim."""
    return request("POST", f"/api/v1/events/{event_id}/claims", user, *headers, body=body)


def ask(server: Server, message: bytes) -> Told:
    """Ask, and wait for the answer."""
    with Connection(server.port) as connection:
        connection.send(message)
        return Told.of(connection.receive())


@contextmanager
def under_way(server: Server, messages: Sequence[bytes]) -> Iterator[list[Connection]]:
    """Ask all, each on a connection of its own; nobody has waited for an answer yet."""
    with ExitStack() as stack:
        connections = [stack.enter_context(Connection(server.port)) for _ in messages]
        for connection, message in zip(connections, messages, strict=True):
            connection.send(message)
        yield connections


def ask_at_once(server: Server, messages: Sequence[bytes]) -> list[Told]:
    """Ask all, and then wait for the answers, which come in the order of the questions."""
    with under_way(server, messages) as connections:
        return [Told.of(connection.receive()) for connection in connections]


def ask_together(server: Server, stock: Valkey, messages: Sequence[bytes]) -> list[Told]:
    """Ask all at once while Redis answers nobody, so that they wait together, and have it answer then."""
    with ExitStack() as stack:
        with frozen(stock):
            connections = stack.enter_context(under_way(server, messages))
        return [Told.of(connection.receive()) for connection in connections]


@contextmanager
def frozen(stock: Valkey) -> Iterator[None]:
    """Stopped by SIGSTOP: it takes connections and answers nothing."""
    stock.stop()
    try:
        yield
    finally:
        stock.cont()


def scripts_run(store: StockStore) -> int:
    """How many scripts the server of the stock has run."""
    told: Any = store.client.info("commandstats")
    return sum(told.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))


@contextmanager
def own_stock(folder: Path) -> Iterator[Valkey]:
    """A Valkey that is the stock for a while, so that it can be stopped and nobody else minds."""
    (folder / "stock").mkdir()
    valkey = Valkey(folder / "stock")
    valkey.start()
    try:
        with stock_at(valkey.url):
            yield valkey
            with suppress(RedisError):
                bulk_store().client.close()
    finally:
        valkey.end()
