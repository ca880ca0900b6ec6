"""Many at once at the gate, a real one: in groups, each with an answer of his own, and exactly N."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psutil
import pytest

from coupons.issuing import issue_claims
from coupons.stock.store import bulk_store
from events import services
from events.models import Event
from tests.factories import make_users
from tests.faults.parts import Valkey, until
from tests.gate_kit import (
    Told,
    ask,
    ask_at_once,
    ask_together,
    claim,
    frozen,
    own_stock,
    request,
    scripts_run,
    under_way,
)
from tests.sales import assert_sold_out_exactly, assert_sum
from tests.web import PATIENT, Server, until_read

Sale = Callable[..., Event]


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with own_stock(tmp_path_factory.mktemp("own")) as valkey:
        yield valkey


@pytest.fixture(scope="module")
def gate(stock: Valkey, lasting_server: Callable[..., Server]) -> Server:
    return lasting_server("gate", STOCK_REDIS_URL=stock.url, **PATIENT)


def sequences(answers: list[Told]) -> list[int]:
    return sorted(one.body["sequence"] for one in answers if one.status == 202)


def test_claims_that_come_together_go_to_redis_together(stock: Valkey, gate: Server, sale: Sale) -> None:
    event, store = sale(quantity=300), bulk_store()
    until_read(gate.port, event)
    assert ask(gate, claim(event.id, 1)).status == 202
    before = scripts_run(store)
    answers = ask_together(gate, stock, [claim(event.id, user) for user in range(2, 202)])
    assert Counter(one.status for one in answers) == {202: 200}
    assert sequences(answers) == list(range(2, 202))
    assert scripts_run(store) - before < 50, "and among them are the readings of the catalogue"


def test_with_groups_of_one_each_claim_is_a_script_of_its_own(
    stock: Valkey, server: Callable[..., Server], sale: Sale
) -> None:
    """The negative control."""
    event, gate = sale(quantity=300), server("gate", STOCK_REDIS_URL=stock.url, GATE_GROUP="1", **PATIENT)
    assert ask(gate, claim(event.id, 1)).status == 202
    before = scripts_run(bulk_store())
    answers = ask_together(gate, stock, [claim(event.id, user) for user in range(2, 202)])
    assert Counter(one.status for one in answers) == {202: 200}
    assert scripts_run(bulk_store()) - before >= 200


def test_several_events_at_once_do_not_mix(stock: Valkey, gate: Server, sale: Sale) -> None:
    events = [sale(quantity=quantity) for quantity in (5, 10, 20, 40)]
    until_read(gate.port, events[-1])
    users = range(1, 31)
    answers = ask_together(gate, stock, [claim(event.id, user) for user in users for event in events])
    for number, event in enumerate(events):
        mine = answers[number :: len(events)]
        won = min(event.quantity, len(users))
        assert Counter(one.status for one in mine) == Counter({202: won, 409: len(users) - won})
        assert {one.code for one in mine if one.status == 409} <= {"sold_out"}
        assert sequences(mine) == list(range(1, won + 1))
        assert {one.body["event_id"] for one in mine if one.status == 202} == {event.id}
        assert_sum(bulk_store(), event)


def test_what_one_sends_touches_no_neighbour(stock: Valkey, gate: Server, sale: Sale) -> None:
    event, closed = sale(quantity=1000), sale()
    services.close(event_id=closed.id)
    until_read(gate.port, sale())
    assert ask(gate, claim(event.id, 1, "Idempotency-Key: first")).status == 202
    odd = [
        (claim(event.id, 1), 409),
        (claim(event.id, 1, "Idempotency-Key: first"), 202),
        (claim(event.id, 2, f"Idempotency-Key: {'k' * 256}"), 400),
        (claim(event.id, 3, body=b"["), 400),
        (claim(event.id, 4, body=b"[]"), 400),
        (claim(event.id, 0), 401),
        (claim(closed.id, 5), 403),
        (claim(999_999_999, 6), 404),
        (claim(2**63 - 1, 7), 404),
        (claim(event.id, 2**63 - 1), 202),
        (request("GET", f"/api/v1/events/{event.id}/claims/{event.id}-9-9", 8), 404),
        (request("GET", f"/api/v1/events/{event.id}/claims/x", 9), 404),
    ]
    messages, expected = [], []
    for number in range(100, 220):
        message, status = odd[number % len(odd)]
        messages += [claim(event.id, number), message]
        expected += [202, status]
    told = [one.status for one in ask_together(gate, stock, messages)]
    assert told[::2] == expected[::2], "the neighbours"
    # One user who asks ten times is told of his claim, or to slow down.
    pairs = zip(told[1::2], expected[1::2], strict=True)
    assert [(got, wanted) for got, wanted in pairs if got not in {wanted, 409, 429}] == []
    assert Counter(told[1::2]).keys() >= {202, 400, 401, 403, 404, 409}
    assert_sum(bulk_store(), event)


def test_beyond_those_who_may_wait_one_is_refused_at_once(
    stock: Valkey, server: Callable[..., Server], sale: Sale
) -> None:
    event = sale(quantity=1000)
    gate = server("gate", STOCK_REDIS_URL=stock.url, GATE_WAITING="20", GATE_GROUP="10", **PATIENT)
    assert ask(gate, claim(event.id, 1)).status == 202
    with ExitStack() as stack:
        with frozen(stock):
            asking = under_way(gate, [claim(event.id, user) for user in range(2, 102)])
            connections = stack.enter_context(asking)
            # Thirty at most have a place: ten in a call that is under way, and twenty behind them.
            until(lambda: sum(not one.waits() for one in connections) >= 70, "the others are answered")
            refused = [one for one in connections if not one.waits()]
            for one in refused:
                told = Told.of(one.receive())
                assert (told.status, told.code) == (503, "unavailable")
                assert int(told.reply.header("retry-after") or 0) >= 1
        counts = Counter(Told.of(one.receive()).status for one in connections if one not in refused)
    assert counts.keys() == {202}
    assert 20 <= counts[202] <= 30
    assert bulk_store().snapshot(event.id).sequence == counts[202] + 1
    assert ask(gate, claim(event.id, 2000)).status == 202


def test_who_hangs_up_while_he_waits_holds_nobody_up(stock: Valkey, gate: Server, sale: Sale) -> None:
    event = sale(quantity=1000)
    until_read(gate.port, event)
    assert ask(gate, claim(event.id, 1)).status == 202
    claims = [claim(event.id, user) for user in range(2, 102)]
    with ExitStack() as stack:
        with frozen(stock):
            connections = stack.enter_context(under_way(gate, claims))
            for connection in connections[::2]:
                connection.hang_up()
        answers = [Told.of(connection.receive()) for connection in connections[1::2]]
    assert Counter(one.status for one in answers) == {202: 50}
    # Each of those who left was either heard or not; he is told which when he comes again.
    again = ask_at_once(gate, claims[::2])
    assert Counter(one.status for one in again).keys() <= {202, 409}
    assert bulk_store().snapshot(event.id).sequence == 101
    assert_sum(bulk_store(), event)


def test_fifty_callers_get_exactly_what_there_is(stock: Valkey, gate: Server, sale: Sale) -> None:
    event, users, store = sale(quantity=30), make_users(50), bulk_store()
    until_read(gate.port, event)
    messages = [claim(event.id, user, f"Idempotency-Key: {user}") for user in users for _ in range(3)]
    answers = ask_together(gate, stock, messages)
    assert Counter(one.status for one in answers) == {202: 90, 409: 60}
    assert {one.code for one in answers if one.status == 409} == {"sold_out"}
    by_user: dict[int, set[Any]] = {}
    for number, one in enumerate(answers):
        by_user.setdefault(number // 3, set()).add(one.body.get("id"))
    assert all(len(claims) == 1 for claims in by_user.values()), "the same answer, however often"
    issue_claims(event.id, store)
    assert_sold_out_exactly(store, event)


GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x00" * 5000,
    bytes(range(256)) * 40,
    b"GET / HTTP/1.1\r\n" * 200,
    b"POST /api/v1/events/1/claims HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{",
    b"POST /api/v1/events/1/claims HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /api/v1/events/1/state HTTP/1.1\r\nX-A: " + b"x" * 600_000,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 500,
    b"GET /api/v1/events/\xff/state HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /api/v1/events/1/state HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
]


def test_the_worker_survives_garbage(gate: Server, sale: Sale) -> None:
    event = sale()
    until_read(gate.port, event)
    workers = {one.pid for one in psutil.Process(gate.process.pid).children()}
    assert workers
    for _ in range(3):
        with under_way(gate, GARBAGE):
            assert ask(gate, request("GET", f"/api/v1/events/{event.id}/state")).status == 200
    assert ask(gate, claim(event.id, 1)).status == 202
    assert {one.pid for one in psutil.Process(gate.process.pid).children()} == workers
    assert "Traceback" not in gate.log.read_text()
