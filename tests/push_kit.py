"""A browser as a push service and we know it: the keys that messages are encrypted with, and what it reads of them."""

import base64
import json
from typing import Any

import http_ece
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.receivers import Received, Receiver


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Browser:
    """What a browser has of a subscription."""

    def __init__(self, service: Receiver, name: str = "1") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.auth = b"0123456789abcdef"
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.endpoint = f"http://127.0.0.1:{service.port}/push/{name}"
        self.keys = {"p256dh": encoded(point), "auth": encoded(self.auth)}
        self.json = {"endpoint": self.endpoint, "keys": self.keys}

    def read(self, received: Received) -> Any:
        assert received.headers["content-encoding"] == "aes128gcm"
        return json.loads(http_ece.decrypt(received.body, private_key=self.key, auth_secret=self.auth))
