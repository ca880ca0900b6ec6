"""Who is connected over TCP, as Linux tells: that somebody hung up is learnt here without reading what they sent."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

CAN_TELL = Path("/proc/net/tcp").exists()
ESTABLISHED = b"01"

Peer = tuple[bytes, bytes]  # their address and port, and our port, in hexadecimal as in the table


def peer(client: tuple[str, int | str], server: tuple[str, int | str]) -> Peer:
    """How the table names the connection of a client to a server's port. Granian gives ports as text."""
    packed = ip_address(client[0].partition("%")[0]).packed
    # The kernel writes addresses as words of 32 bits, in the order of the machine.
    words = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    address = "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
    return f"{address}:{int(client[1]):04X}".encode(), f"{int(server[1]):04X}".encode()


def connected() -> set[Peer]:
    """All that are. A connection may be passed over once, when others come and go while the table is read."""
    return {
        (theirs, ours.rpartition(b":")[2])
        for _, ours, theirs, state, *_ in map(bytes.split, _lines())
        if state == ESTABLISHED
    }


def _lines() -> Iterator[bytes]:
    for name in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):  # where there is no IPv6
            yield from Path("/proc/net", name).read_bytes().splitlines()[1:]
