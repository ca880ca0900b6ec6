"""Who is connected over TCP, by real connections: those that are there, and those that hung up without a word."""

import socket

import pytest

from config import peers

pytestmark = pytest.mark.skipif(not peers.CAN_TELL, reason="Linux tells it, and nobody else")


@pytest.mark.parametrize(("listens", "address"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1")])
def test_a_connection_is_there_until_its_client_hangs_up(listens: str, address: str) -> None:
    family = socket.AF_INET6 if ":" in listens else socket.AF_INET
    with socket.create_server((listens, 0), family=family, dualstack_ipv6=listens == "::") as server:
        port = server.getsockname()[1]
        client = socket.create_connection((address, port))
        taken, theirs = server.accept()
        with taken:
            one = peers.peer((theirs[0], str(theirs[1])), (address, str(port)))
            assert one in peers.connected()
            assert peers.peer((theirs[0], theirs[1] ^ 1), (address, port)) not in peers.connected()
            client.close()
            assert one not in peers.connected()
