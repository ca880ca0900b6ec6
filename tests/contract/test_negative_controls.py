"""The suite sees a lane that answers otherwise: the gate with one thing altered on the way."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.contract.corpus import CLAIMS, Case, ask, case, claim, state
from tests.contract.lanes import Lane, Lanes

CLAIM = case("a claim", claim("X-Request-ID: a"), answers="202")
AGAIN = case("the same again", claim("Idempotency-Key: a"), claim("Idempotency-Key: a"), answers=["202", "202"])
STATE = case("the state", state(), answers="200")
NOBODY = case("no token", ask("POST", CLAIMS), answers="401 unauthenticated")


@contextmanager
def altering(port: int, old: bytes, new: bytes) -> Iterator[int]:
    """A server that passes on what comes to another, and its answers with `new` for `old`; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_pass_on, args=(listener, port, old, new))
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)
        assert not thread.is_alive()


def _pass_on(listener: socket.socket, port: int, old: bytes, new: bytes) -> None:
    with listener.accept()[0] as client, socket.create_connection(("127.0.0.1", port)) as server:

        def ask_on() -> None:
            while asked := client.recv(65536):
                server.sendall(asked)

        asking = threading.Thread(target=ask_on)
        asking.start()
        while answer := server.recv(65536):
            client.sendall(answer.replace(old, new))
        client.shutdown(socket.SHUT_WR)
        asking.join(10)


@pytest.mark.parametrize(
    ("each", "old", "new"),
    [
        (CLAIM, b"202 Accepted", b"201 Created"),
        (CLAIM, b"application/json", b"application/jsox"),
        (CLAIM, b"no-store", b"no-cache"),
        (CLAIM, b"nosniff", b"mosniff"),
        (CLAIM, b"x-request-id: a", b"x-request-id: b"),
        (CLAIM, b"x-request-id", b"x-request-no"),
        (CLAIM, b"\r\nlocation: ", b"\r\nlocatiom: "),
        (CLAIM, b"\r\nserver: granian", b"\r\nset-cookie: a=b"),
        (CLAIM, b'"pending"', b'"waiting"'),
        (CLAIM, b'"sequence"', b'"sequenze"'),
        (CLAIM, b'Z"', b' "'),
        (NOBODY, b"www-authenticate", b"www-authenticite"),
        (NOBODY, b'"unauthenticated"', b'"unauthenticoted"'),
        (NOBODY, b"Who asks", b"Who nags"),
        (STATE, b"max-age=1", b"max-age=2"),
        (STATE, b"\r\netag: ", b"\r\netog: "),
        (STATE, b'"sold_out"', b'"open____"'),
        (STATE, b'"status":"ok"', b'"status":"no"'),  # of the question whether the connection still serves
    ],
)
def test_an_altered_answer_is_a_difference(lanes: Lanes, each: Case, old: bytes, new: bytes) -> None:
    web, gate = lanes.lanes
    with altering(gate.port, old, old) as port:
        first, other = lanes.converse(each, [web, Lane("gate", port, gate.names)])
        assert first == other, "passed on as it is"
    with altering(gate.port, old, new) as port:
        first, other = lanes.converse(each, [web, Lane("gate", port, gate.names)])
        assert first != other


def test_another_claim_under_the_same_key_is_a_difference(lanes: Lanes) -> None:
    (told,) = lanes.converse(AGAIN, lanes.lanes[:1])
    first, again = told.told
    assert first == again
    assert "claim 1" in first["body"]
    _, gate = lanes.lanes
    (told,) = lanes.converse(case("two users", claim(), claim().replace(b"<token>", b"<other>"), answers=[]), [gate])
    assert [("claim 1" in one["body"], "claim 2" in one["body"]) for one in told.told] == [(True, False), (False, True)]


def test_a_length_that_is_not_that_of_the_body_is_seen(lanes: Lanes) -> None:
    _, gate = lanes.lanes
    with altering(gate.port, b"waiting_room", b"waiting_rooms") as port, pytest.raises(AssertionError):
        lanes.converse(STATE, [Lane("gate", port, gate.names)])
