"""WebSockets where something is wrong: nobody reads, too many come, Redis goes away, the server stops."""

import re
import signal
import socket as sockets
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import orjson
from redis import Redis
from websockets.exceptions import InvalidStatus

from events import services
from events.models import Event
from notifications.live import CHANNEL, publish
from tests.api_kit import forge
from tests.benchmarks.watching import HANDSHAKE
from tests.factories import make_users
from tests.faults.parts import Valkey, until
from tests.sockets_kit import issue, notification, socket
from tests.web import Server

Sale = Callable[..., Event]
Serve = Callable[..., Server]


def open_at(server: Server) -> int:
    """How many sockets the server has."""
    told = re.search(rb"^seonchak_sockets(?:{.*})? (\d+)", server.ask("GET", "/metrics")[2], re.MULTILINE)
    assert told
    return int(told[1])


def test_who_reads_nothing_is_dropped_and_the_others_go_on(sale: Sale, server: Serve) -> None:
    event, (user, other) = sale(), make_users(2)
    gate = server("gate", LIVE_SEND_TIMEOUT="0.3")
    path = f"/ws/events/{event.id}"
    big = notification("coupon_issued", data={"event_id": 0, "x": "x" * 2**19})
    with (
        sockets.socket() as reads_nothing,
        socket(gate.port, path, subprotocols=["bearer", forge(user_id=other)]) as one,
    ):
        reads_nothing.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        reads_nothing.connect(("127.0.0.1", gate.port))
        bearer = f"Sec-WebSocket-Protocol: bearer, {forge(user_id=user)}\r\n".encode()
        reads_nothing.sendall(HANDSHAKE % (path.encode(), bearer))
        one.hear_until("ready")
        until(lambda: open_at(gate) == 2, "both are there", seconds=5)
        sent = 0

        def is_dropped() -> bool:
            nonlocal sent
            publish([(user, big), (other, notification("coupon_issued", data={"event_id": 0, "n": sent}))])
            assert one.hear_until("notification")["notification"]["data"]["n"] == sent, "the other has it all along"
            sent += 1
            return open_at(gate) == 1

        until(is_dropped, "the one that does not read is dropped", seconds=10)
        services.pause(event_id=event.id)
        one.hear_until("state", phase="paused")


def test_who_answers_no_ping_is_dropped(sale: Sale, server: Serve) -> None:
    event = sale()
    gate = server("gate", LIVE_PING="0.5")
    path = f"/ws/events/{event.id}"
    with (
        socket(gate.port, path) as silent,
        socket(gate.port, path) as one,
        socket(gate.port, path, subprotocols=["listen"]) as listener,
    ):
        assert silent.connection.recv()
        started = time.monotonic()
        one.hear_until("state")
        while open_at(gate) == 3:
            one.answers_pings(0.1)
            assert time.monotonic() < started + 10, "the one that says nothing is dropped"
        assert silent.end() == 4408
        services.pause(event_id=event.id)
        one.hear_until("state", phase="paused")
        listener.hear_until("state", phase="paused")  # of which no answer is asked


def test_a_process_takes_no_more_than_it_can_and_those_who_went_make_room(sale: Sale, server: Serve) -> None:
    event = sale()
    gate = server("gate", LIVE_SOCKETS="2", LIVE_PING="0.5")
    path = f"/ws/events/{event.id}"
    with ExitStack() as stack:
        one, other = (stack.enter_context(socket(gate.port, path, subprotocols=["listen"])) for _ in range(2))
        other.hear_until("state")
        assert refused(gate, path) == 503
        one.connection.close()
        until(lambda: refused(gate, path) is None, "there is room again", seconds=10)
        services.pause(event_id=event.id)
        other.hear_until("state", phase="paused")


def refused(gate: Server, path: str) -> int | None:
    try:
        with socket(gate.port, path) as client:
            client.hear("state")
    except InvalidStatus as status:
        return status.response.status_code
    return None


def test_what_was_missed_while_redis_was_away_is_told_when_it_is_back(
    sale: Sale, server: Serve, tmp_path: Path
) -> None:
    event, (user,) = sale(quantity=5), make_users(1)
    (tmp_path / "cache").mkdir()
    cache = Valkey(tmp_path / "cache")
    cache.start()
    try:
        gate = server("gate", CACHE_URL=cache.url)
        gate.claim_all(event, [user])
        with socket(gate.port, f"/ws/events/{event.id}", subprotocols=["bearer", forge(user_id=user)]) as client:
            assert client.hear_until("claim")["status"] == "pending"
            cache.kill()
            told = issue(event.id)
            services.pause(event_id=event.id)
            client.hear_until("state", phase="paused")  # which is nothing of Redis'
            cache.heal()
            assert client.hear_until("claim", status="issued"), "it was asked for anew"
            with Redis.from_url(cache.url) as redis:
                redis.publish(CHANNEL, orjson.dumps(told))
            assert client.hear_until("notification")["notification"]["kind"] == "coupon_issued"
    finally:
        cache.end()


def test_at_a_stop_all_are_told_that_it_goes_on_elsewhere(sale: Sale, server: Serve) -> None:
    event = sale()
    gate = server("gate")
    path = f"/ws/events/{event.id}"
    with socket(gate.port, path) as one, socket(gate.port, path, subprotocols=["listen"]) as other:
        other.hear("state")
        gate.process.send_signal(signal.SIGTERM)
        assert (one.end(), other.end()) == (1012, 1012)
        assert gate.process.wait(10) == 0
