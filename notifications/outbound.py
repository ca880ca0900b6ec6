"""HTTP to addresses that others gave us: operators' webhooks, and the push services of users' browsers.

Whoever names an address could make us ask the inside of our network. So an address is checked when it is connected to,
and it is the checked one that is connected to: a name that points elsewhere the next moment gains nothing. No redirect
is followed, no proxy of the environment is asked, an answer is read up to a limit only, and it all ends in time.
"""

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from urllib.parse import SplitResult, urlsplit

import certifi
from django.conf import settings
from django.utils.translation import gettext as _

LONGEST_ANSWER = 16 * 1024  # bytes of an answer that are read; nobody looks at more than its status
# IPv6 that Python takes for public and that is not, or carries an IPv4 address inside: 6to4, Teredo, NAT64 (also of one
# network's own), addresses of a site. (Mapped ones, ::ffff:0:0/96, are not global.)
NOT_PUBLIC = [
    ipaddress.ip_network(one)
    for one in ("2002::/16", "2001::/32", "64:ff9b::/96", "64:ff9b:1::/48", "::/96", "fec0::/10")
]


class NotAllowed(Exception):  # noqa: N818 - an answer to who asks, not an error of ours
    """Nothing is sent to that address."""


class Unanswered(Exception):  # noqa: N818
    """Nobody answered: refused, cut off, or not in time. The message names no address."""


@dataclass(frozen=True, slots=True)
class Post:
    """What is to be sent where."""

    url: str
    body: bytes
    headers: Mapping[str, str]


def check(url: str) -> None:
    """Refuse what is never sent to; `NotAllowed` says why. What a name points to is checked at each connection."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise NotAllowed(_("It is no URL.")) from error
    schemes = {"http", "https"} if settings.OUTBOUND_PRIVATE else {"https"}
    if parts.scheme not in schemes or not host:
        raise NotAllowed(_("It must begin with https://."))
    if parts.username is not None or parts.password is not None:
        raise NotAllowed(_("It must not hold a name or a password."))
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a name
        return
    if not is_allowed(str(address)):
        raise NotAllowed(_("It is an address of a private network."))


def is_allowed(address: str) -> bool:
    """Whether an IP address is out on the internet, or private ones are allowed (`OUTBOUND_PRIVATE`)."""
    if settings.OUTBOUND_PRIVATE:
        return True
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    if mapped is not None:
        return is_allowed(str(mapped))
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in NOT_PUBLIC)


def send(post: Post) -> int:
    """Send it by a connection of its own; the status of the answer.

    All of it takes `OUTBOUND_TIMEOUT` at most, but for the look-up of the name. Raises `NotAllowed`, `Unanswered`.
    """
    check(post.url)
    parts = urlsplit(post.url)
    connection = _guarded(parts)
    # Each read has its own time-out, and an answer that comes letter by letter would never meet one.
    timer = threading.Timer(settings.OUTBOUND_TIMEOUT, connection.cut)
    timer.daemon = True
    timer.start()
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body=post.body, headers={**post.headers, "Connection": "close"})
        response = connection.getresponse()
        response.read(LONGEST_ANSWER)
        if connection.is_cut:  # what was read is taken for all there is
            raise TimeoutError
    except (HTTPException, OSError, ValueError) as error:
        late = connection.is_cut or isinstance(error, TimeoutError)
        raise Unanswered("no answer in time" if late else type(error).__name__) from error
    finally:
        timer.cancel()
        connection.hang_up()
    return response.status


class _Guarded(HTTPConnection):
    """A connection to allowed addresses only, which another thread may cut."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        super().__init__(host, port)
        self.is_cut = False
        self._context = context
        self._handle: socket.socket | None = None  # TLS takes the connection's own away while it is set up

    def connect(self) -> None:
        """Look the name up, check what it points to, and connect to that."""
        deadline = time.monotonic() + settings.OUTBOUND_TIMEOUT
        found = [str(one[4][0]) for one in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)]
        if not all(map(is_allowed, found)):
            raise NotAllowed(_("It points to an address of a private network."))
        made = _first_that_answers(found, self.port, deadline)
        self._handle = made.dup()
        if self.is_cut:  # there was nothing yet to be cut
            made.close()
            raise TimeoutError
        self.sock = self._context.wrap_socket(made, server_hostname=self.host) if self._context else made

    def cut(self) -> None:
        """End whatever is under way, from another thread."""
        self.is_cut = True
        if self._handle is not None:
            with suppress(OSError):  # it has ended by itself
                self._handle.shutdown(socket.SHUT_RDWR)

    def hang_up(self) -> None:
        """Close all that is open."""
        self.close()
        if self._handle is not None:
            self._handle.close()


def _guarded(parts: SplitResult) -> _Guarded:
    secure = parts.scheme == "https"
    context = ssl.create_default_context(cafile=settings.OUTBOUND_CA or certifi.where()) if secure else None
    return _Guarded(parts.hostname or "", parts.port or (443 if secure else 80), context)


def _first_that_answers(addresses: Sequence[str], port: int, deadline: float) -> socket.socket:
    refused: OSError = OSError("no address")
    for address in addresses:
        try:
            return socket.create_connection((address, port), timeout=max(0.1, deadline - time.monotonic()))
        except OSError as error:
            refused = error
    raise refused
