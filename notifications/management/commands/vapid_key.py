"""`manage.py vapid_key`: make a key for Web Push."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from django.core.management.base import BaseCommand
from py_vapid import b64urlencode


class Command(BaseCommand):
    """Prints a new private key, for the setting `VAPID_PRIVATE_KEY`. Keep it: browsers subscribe to this one."""

    help = "Make a key for Web Push, and print it for VAPID_PRIVATE_KEY."
    requires_system_checks = ()

    def handle(self, *_: Any, **__: Any) -> None:
        """One line."""
        key = ec.generate_private_key(ec.SECP256R1())
        self.stdout.write(b64urlencode(key.private_numbers().private_value.to_bytes(32, "big")))
