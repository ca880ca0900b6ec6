"""Each way in which the proxy misbehaves, shown on a real server that echoes and notes what it was sent."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.proxy import Proxies, Proxy

pytestmark = pytest.mark.faults

SOON = 0.3  # seconds, for what must not happen
PATIENCE = 10  # seconds, for what must


class Echo:
    """A server that sends back what it gets. It ends with its listener."""

    def __init__(self, listener: socket.socket) -> None:
        self.heard = b""
        self.listener = listener
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            while data := connection.recv(65536):
                self.heard += data
                connection.sendall(data)

    def hears(self, data: bytes) -> bool:
        """Whether it has been sent this, waiting for it."""
        return within(lambda: data in self.heard)

    def ended(self, number: int) -> bool:
        """Whether that connection has ended, waiting for it."""
        return within(lambda: self.connections[number].fileno() < 0)


def within(condition: Callable[[], bool]) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


@pytest.fixture
def proxies() -> Iterator[Proxies]:
    with Proxies() as started:
        yield started


@pytest.fixture
def echo() -> Iterator[Echo]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Echo(listener)
        yield server
        for connection in server.connections:
            connection.close()


@pytest.fixture
def proxy(proxies: Proxies, echo: Echo) -> Proxy:
    return proxies.open(echo.listener.getsockname())


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE)


def connect_and_wait(proxy: Proxy) -> None:
    with connect(proxy) as one:
        one.recv(1)


def ask(connection: socket.socket, data: bytes) -> bytes:
    """Send it, and the answer."""
    connection.sendall(data)
    return connection.recv(65536)


def silent(connection: socket.socket) -> bool:
    """Whether nothing comes for a while, not even an end."""
    connection.settimeout(SOON)
    try:
        connection.recv(65536)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(PATIENCE)
    return False


def test_it_passes(proxy: Proxy) -> None:
    with connect(proxy) as one, connect(proxy) as other:
        assert ask(one, b"one") == b"one"
        assert ask(other, b"other") == b"other"


def test_an_end_is_passed_on_in_both_directions(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as one, connect(proxy) as other:
        assert ask(one, b"one") + ask(other, b"other") == b"oneother"
        echo.connections[0].shutdown(socket.SHUT_RDWR)
        assert one.recv(1) == b""
        assert ask(other, b"still") == b"still"
    assert echo.ended(1), "the server was told that its client has gone"


def test_it_stands_in_front_of_a_unix_socket_too(proxies: Proxies, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        echo = Echo(listener)
        with connect(proxies.open(path)) as one:
            assert ask(one, b"hello") == b"hello"
        assert echo.heard == b"hello"


def test_a_server_that_is_away_is_told_by_a_reset(proxies: Proxies) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening
        line = proxies.open(taken.getsockname())
        # It may come while we connect still.
        with pytest.raises(ConnectionResetError), connect(line) as one:
            one.recv(1)


def test_a_delay_holds_up_each_way_and_keeps_the_order(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as one:
        assert ask(one, b"at once") == b"at once"
        proxy.delay(0.2)
        started = time.monotonic()
        one.sendall(b"late")
        assert silent(one) is True
        assert one.recv(65536) == b"late"
        assert time.monotonic() - started >= 0.4
        one.sendall(b"first ")
        assert echo.hears(b"late")
        proxy.pass_on()
        one.sendall(b"then")
        answer = b""
        while len(answer) < 10:
            answer += one.recv(65536)
        assert answer == b"first then"


def test_what_was_sent_into_a_delay_arrives_though_the_sender_has_gone(proxy: Proxy, echo: Echo) -> None:
    proxy.delay(0.2)
    with connect(proxy) as one:
        one.sendall(b"too late to be called back")
    assert b"back" not in echo.heard
    assert echo.hears(b"too late to be called back")


def test_a_black_hole_swallows_what_old_and_new_connections_send(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as old:
        assert ask(old, b"old") == b"old"
        proxy.black_hole()
        with connect(proxy) as new:
            old.sendall(b"swallowed")
            new.sendall(b"swallowed")
            assert silent(old)
            assert silent(new)
            assert echo.heard == b"old"
            proxy.pass_on()
            for one in (old, new):
                with pytest.raises(ConnectionResetError):
                    one.recv(1)
    with connect(proxy) as after:
        assert ask(after, b"after") == b"after"


def test_a_server_hears_of_a_client_that_left_in_the_black_hole_when_it_passes_again(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as one:
        assert ask(one, b"one") == b"one"
        proxy.black_hole()
    time.sleep(SOON)  # for an end that must not arrive
    assert echo.connections[0].fileno() >= 0
    proxy.pass_on()
    assert echo.ended(0)


def test_a_connection_that_lost_nothing_in_the_black_hole_goes_on(proxy: Proxy) -> None:
    with connect(proxy) as one:
        assert ask(one, b"before") == b"before"
        proxy.black_hole()
        proxy.pass_on()
        assert ask(one, b"after") == b"after"


def test_a_reset_ends_old_connections_and_each_new_one(proxy: Proxy) -> None:
    with connect(proxy) as old:
        assert ask(old, b"old") == b"old"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            old.recv(1)
    with pytest.raises(ConnectionResetError):
        connect_and_wait(proxy)
    proxy.pass_on()
    with connect(proxy) as after:
        assert ask(after, b"after") == b"after"


def test_nobody_listens_while_it_refuses(proxy: Proxy) -> None:
    with connect(proxy) as old:
        assert ask(old, b"old") == b"old"
        proxy.refuse()
        assert old.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    port = proxy.port
    proxy.pass_on()
    assert proxy.port == port
    with connect(proxy) as after:
        assert ask(after, b"after") == b"after"


def test_dropped_replies_leave_the_server_having_done_it(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as one:
        assert ask(one, b"before") == b"before"
        proxy.drop_replies()
        one.sendall(b"done")
        assert silent(one)
        assert echo.heard == b"beforedone"
        one.sendall(b"again")
        assert echo.hears(b"doneagain")
        proxy.pass_on()
        with pytest.raises(ConnectionResetError):
            one.recv(1)


def test_a_client_is_never_told_of_a_half_open_connection(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as old:
        assert ask(old, b"old") == b"old"
        proxy.half_open()
        old.sendall(b"to nobody")
        assert silent(old)
        with connect(proxy) as new:
            assert ask(new, b"new") == b"new"
        proxy.pass_on()
        old.sendall(b"to nobody still")
        assert silent(old)
        assert echo.heard == b"oldnew"


def test_it_carries_thousands_of_small_round_trips_a_second(proxy: Proxy, record_property) -> None:
    """Measured, and held only to a number that a busy machine reaches."""
    number = 3000
    with connect(proxy) as one:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        started = time.perf_counter()
        for _ in range(number):
            assert ask(one, b"x" * 100)
        rate = number / (time.perf_counter() - started)
    record_property("round_trips_a_second", round(rate))
    print(f"{rate:,.0f} round trips a second through the proxy")
    assert rate > 300
