"""Webhooks: what users are told is told to the operators' systems, too.

Signed as https://www.standardwebhooks.com has it, for which there are libraries in most languages.
"""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from notifications.channels.base import Failed, Target
from notifications.channels.http import HttpChannel
from notifications.models import Delivery, Notification, WebhookEndpoint
from notifications.outbound import Post
from notifications.plain import dumps

PREFIX = "whsec_"
GONE = 410


def new_secret() -> str:
    """A secret to sign with: 32 random bytes, as text."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signature(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` header: HMAC-SHA256 over id, time and body, so that none of them can be changed."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


class WebhookChannel(HttpChannel):
    """The active endpoints, each told of the kinds that it asks for. `webhook-id` tells a message that came twice."""

    name = Delivery.Channel.WEBHOOK
    batch = 20
    max_age = timedelta(days=3)

    def targets(self, notifications: Sequence[Notification]) -> Iterable[Target]:
        """Every endpoint, of its kinds."""
        endpoints = [(str(one.pk), set(one.kinds)) for one in WebhookEndpoint.objects.filter(active=True)]
        return [(one.pk, target) for one in notifications for target, kinds in endpoints if one.kind in kinds]

    def known_targets(self) -> list[str]:
        """The endpoints: one that is slow or away holds up no other. What waits for one that is off is given up."""
        return [str(pk) for pk in WebhookEndpoint.objects.values_list("pk", flat=True)]

    def posts(self, deliveries: Sequence[Delivery]) -> Mapping[int, Post | Failed]:
        """Signed now, for receivers refuse what was signed long ago."""
        endpoints = WebhookEndpoint.objects.in_bulk([int(delivery.target) for delivery in deliveries])
        now = int(time.time())
        return {delivery.pk: _post(delivery, endpoints.get(int(delivery.target)), now) for delivery in deliveries}

    def judge(self, status: int) -> None:
        """A 410 says that it is wanted no more."""
        if status == GONE:
            raise Failed(f"HTTP {status}", permanent=True)
        super().judge(status)


def _post(delivery: Delivery, endpoint: WebhookEndpoint | None, now: int) -> Post | Failed:
    if endpoint is None:
        return Failed("the endpoint is gone", permanent=True)
    if not endpoint.active:
        return Failed("the endpoint is switched off", permanent=True)
    told = delivery.notification
    data = {"notification_id": told.pk, "user_id": told.user_id, **told.data}
    body = dumps({"type": told.kind, "timestamp": told.created_at, "data": data})
    key = delivery.dedupe_key
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Seonchak",
        "webhook-id": key,
        "webhook-timestamp": str(now),
        "webhook-signature": signature(endpoint.secret, message_id=key, timestamp=now, body=body),
    }
    return Post(endpoint.url, body, headers)
