"""Who is notified, for tests: a mail server, and an HTTP server that fails as it is told to. Real ones, on loopback."""

import email
import json
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from config.embedded import free_port

PATIENCE = 20  # seconds that a server hangs at most


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """Takes posts. `script` says what it does with those to come: a status, or `hang`, `reset`, `drip`; then 204."""

    port: int
    scheme: str = "http"
    received: list[Received] = field(default_factory=list)
    script: deque[int | str] = field(default_factory=deque)
    always: int | str = 204
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        return [one.headers["webhook-id"] for one in self.received]


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        told = self.receiver
        told.received.append(Received(self.path, headers, body))
        act = told.script.popleft() if told.script else told.always
        if act == "hang":
            told.released.wait(PATIENCE)
        elif act == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif act == "drip":
            self._drip()
        else:
            self.send_response(cast("int", act))
            self.send_header("Location", told.url)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.close_connection = True

    def _drip(self) -> None:
        """Answer, but for ever."""
        try:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not self.receiver.released.wait(0.05):
                self.wfile.write(b"x")
                self.wfile.flush()
        except OSError:
            return  # cut off, as it should be

    def finish(self) -> None:
        try:
            super().finish()
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def receiving(always: int | str = 204, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """An HTTP receiver; over TLS with a context."""
    handler = cast("type[_Handler]", type("Handler", (_Handler,), {}))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        handler.receiver = Receiver(server.server_address[1], "https" if tls else "http", always=always)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield handler.receiver
        finally:
            handler.receiver.released.set()
            server.shutdown()
            thread.join()


@dataclass
class Mailbox:
    """A mail server's. `answers` are what it says to the next messages instead of taking them."""

    port: int
    mails: list[EmailMessage] = field(default_factory=list)
    answers: deque[str] = field(default_factory=deque)
    refused: dict[str, str] = field(default_factory=dict)  # recipients, and what is said of them

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.answers:
            return self.answers.popleft()
        content = cast("bytes", envelope.content)
        self.mails.append(email.message_from_bytes(content, policy=default))
        return "250 OK"


def certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1 that nobody has signed but itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(secret + made.public_bytes(Encoding.PEM))
    return path


@contextmanager
def mailing() -> Iterator[Mailbox]:
    """A mail server."""
    box = Mailbox(free_port())
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()
