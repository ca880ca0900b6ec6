"""The gate while a server hangs or is away: refusals at once, the breaker, the database mode; and what needs none."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from django.db import connection

from config.postgresql.connection import breaker
from coupons import modes
from coupons.issuing import issue_claims
from coupons.stock.store import StockStore, bulk_store
from events.models import Event
from events.redis.breaker import State
from tests.factories import make_user, make_users
from tests.faults.parts import Valkey
from tests.gate_kit import Told, ask, ask_at_once, claim, own_stock, request, under_way
from tests.postgres import Postgres, until
from tests.sales import assert_sum, reserve
from tests.web import Server, until_read

Sale = Callable[..., Event]
Start = Callable[..., Server]
SOON = 1.0  # seconds: P8


@pytest.fixture
def postgres(transactional_db: None) -> Iterator[Postgres]:
    """The run's server, for a test that leaves the breaker as it was."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW data_directory")
        folder = cursor.fetchone()[0]
    yield Postgres(Path(folder))
    connection.close()
    breaker.succeeded()


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with own_stock(tmp_path_factory.mktemp("own")) as valkey:
        yield valkey


@pytest.fixture(scope="module")
def gate(stock: Valkey, lasting_server: Start) -> Server:
    """Each test leaves it, and what it asks, well."""
    return lasting_server("gate", STOCK_REDIS_URL=stock.url)


def state(event: Event) -> bytes:
    return request("GET", f"/api/v1/events/{event.id}/state")


def poll(event: Event, user: int, claim_id: str) -> bytes:
    return request("GET", f"/api/v1/events/{event.id}/claims/{claim_id}", user)


def stock_breaker(gate: Server) -> str:
    told: str = orjson.loads(gate.ask("GET", "/readyz")[2])["breakers"]["stock"]
    return told


# --- Redis ------------------------------------------------------------------------------------------------------------


def test_a_redis_that_hangs_is_refused_at_once_and_comes_back(stock: Valkey, gate: Server, sale: Sale) -> None:
    event = sale(redis_lost_after=60)
    until_read(gate.port, event)
    assert ask(gate, claim(event.id, 1)).status == 202
    assert ask(gate, state(event)).status == 200
    stock.stop()
    try:
        started = time.monotonic()
        refused = ask_at_once(gate, [claim(event.id, user) for user in range(2, 202)])
        refused += [ask(gate, claim(event.id, user)) for user in range(202, 206)]
        assert time.monotonic() - started < 3 * SOON, "three of them waited, and then the breaker was open"
        assert Counter((one.status, one.code) for one in refused) == {(503, "unavailable"): 204}
        assert all(int(one.reply.header("retry-after") or 0) >= 1 for one in refused)
        failures = [line for line in gate.lines() if line["event"] == "claim_without_redis"]
        assert 1 <= len(failures) <= 5, "one for each call, not for each claim"
        assert stock_breaker(gate) != State.CLOSED
        assert ask(gate, state(event)).status == 200, "from memory"
    finally:
        stock.cont()
    until(lambda: ask(gate, claim(event.id, 300)).status in {202, 409})
    assert stock_breaker(gate) == State.CLOSED
    assert_sum(bulk_store(), event)


def test_a_redis_that_is_lost_has_the_sale_go_on_from_the_database_and_back(
    stock: Valkey, gate: Server, sale: Sale
) -> None:
    first, *others = make_users(12)
    event = sale(redis_lost_after=0, quantity=8)
    until_read(gate.port, event)
    place = ask(gate, claim(event.id, first)).reply.header("location") or ""
    stock.stop()
    try:
        issued = [answer_of(gate, claim(event.id, user), 201) for user in others[:3]]
        assert [one.body["status"] for one in issued] == ["issued"] * 3
        again = ask(gate, claim(event.id, others[2]))
        assert (again.status, again.code) == (409, "already_claimed")
        answer_of(gate, poll(event, others[2], issued[2].body["id"]), 200)
        pending = ask(gate, request("GET", place, first))
        assert (pending.status, pending.code) == (503, "unavailable"), "it is in the log that nobody can read"
    finally:
        stock.cont()
    event.refresh_from_db()
    assert event.stock_mode == Event.StockMode.DATABASE
    answer_of(gate, request("GET", place, first), 200)
    until(lambda: stock_breaker(gate) == State.CLOSED)

    modes.sell_from_redis(event.id, bulk_store())
    assert ask(gate, request("GET", place, first)).body["status"] == "issued", "what it had accepted was honoured"
    answer_of(gate, claim(event.id, others[5]), 202)
    answers = ask_at_once(gate, [claim(event.id, user) for user in others])
    assert Counter(one.code for one in answers) == {"": 3, "already_claimed": 4, "sold_out": 4}
    issue_claims(event.id, bulk_store())
    event.refresh_from_db()
    assert event.issued == 8
    assert_sum(bulk_store(), event)


def answer_of(gate: Server, message: bytes, status: int) -> Told:
    """The first answer of this status, where the gate says before that it cannot answer yet."""
    answers = [ask(gate, message)]

    def is_told() -> bool:
        if answers[-1].status == 503:
            answers.append(ask(gate, message))
        return answers[-1].status != 503

    until(is_told)
    assert answers[-1].status == status, answers[-1].body
    return answers[-1]


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def test_claims_polls_and_states_need_no_database(
    postgres: Postgres, stock: Valkey, server: Start, sale: Sale, store: StockStore
) -> None:
    """With PostgreSQL frozen a query would wait until it is given up, and the answer be another."""
    owner = make_user().pk
    event, gate = sale(quantity=1000), server("gate", STOCK_REDIS_URL=stock.url, DATABASE_REQUEST_TIMEOUT="5")
    (issued,) = reserve(store, event, owner)
    issue_claims(event.id, store)
    assert ask(gate, state(event)).status == 200, "the event is known from here on"
    with postgres.frozen():
        started = time.monotonic()
        claims = ask_at_once(gate, [claim(event.id, user, "Idempotency-Key: a") for user in range(1000, 1100)])
        assert Counter(one.status for one in claims) == {202: 100}
        polls = [poll(event, user, one.body["id"]) for user, one in zip(range(1000, 1100), claims, strict=True)]
        told = ask_at_once(gate, polls)
        assert Counter((one.status, one.body["status"]) for one in told) == {(200, "pending"): 100}
        just_issued = ask(gate, poll(event, owner, f"{event.id}-{issued.entry_id}"))
        assert (just_issued.status, just_issued.body["status"]) == (200, "issued")
        assert Counter(one.status for one in ask_at_once(gate, [state(event)] * 100)) == {200: 100}
        assert time.monotonic() - started < 3 * SOON


def test_what_needs_the_database_waits_apart_from_claims(
    postgres: Postgres, gate: Server, sale: Sale, store: StockStore
) -> None:
    owner = make_user().pk
    event = sale(quantity=1000)
    until_read(gate.port, event)
    (issued,) = reserve(store, event, owner)
    issue_claims(event.id, store)
    for key in store.client.scan_iter("*:issued:*"):
        store.client.delete(key)  # told by the database from here on
    old = poll(event, owner, f"{event.id}-{issued.entry_id}")
    assert ask(gate, old).body["status"] == "issued"
    with postgres.frozen():
        started = time.monotonic()
        told = ask_at_once(
            gate, [old] * 50 + [claim(987_654, 1)] * 50 + [claim(event.id, user) for user in range(1000, 1050)]
        )
        assert time.monotonic() - started < 5 * SOON
        assert Counter((one.status, one.code) for one in told) == {(503, "unavailable"): 100, (202, ""): 50}
        assert all(int(one.reply.header("retry-after") or 0) >= 1 for one in told[:100])
    until(lambda: ask(gate, old).status == 200)


# --- Requests that are not whole --------------------------------------------------------------------------------------


def test_a_body_that_breaks_off_claims_nothing(gate: Server, sale: Sale) -> None:
    event = sale()
    until_read(gate.port, event)
    head = claim(event.id, 1, body=b"{}").replace(b"Content-Length: 2", b"Content-Length: 200")
    chunks = claim(event.id, 1, "Transfer-Encoding: chunked", "Content-Type: application/json")
    told = ask(gate, chunks + b"2\r\n{}\r\nzz\r\n")
    assert (told.status, told.code) == (400, "invalid")
    with under_way(gate, [head]):
        pass
    assert ask(gate, claim(event.id, 2)).body["sequence"] == 1


def test_a_name_with_an_underscore_is_no_header(gate: Server, sale: Sale) -> None:
    """Whoever may set them could pose as a proxy of ours. Over WSGI the server takes them for those with hyphens."""
    event = sale()
    until_read(gate.port, event)
    assert ask(gate, claim(event.id, 1, "Idempotency-Key: a", "Idempotency_Key: b")).status == 202
    assert ask(gate, claim(event.id, 1, "Idempotency-Key: a")).status == 202
    assert ask(gate, claim(event.id, 1, "Idempotency-Key: b")).status == 409
