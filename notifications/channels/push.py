"""Web Push: to browsers whose users allowed it, closed ones as well.

The message, encrypted for the browser (RFC 8291), is JSON for the service worker: `{title, body, url, id}`, in the
user's language. `url` is absolute and to be opened on a click; `id` is the notification's, the same when it comes
twice, and fit for the `tag` of `showNotification`.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cache
from urllib.parse import urlsplit

import orjson
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.utils import timezone
from py_vapid import Vapid02, b64urlencode
from pywebpush import WebPusher, WebPushException

from notifications import preferences
from notifications.channels.base import Failed, Outcome, Target
from notifications.channels.http import HttpChannel
from notifications.models import Delivery, Notification, PushSubscription
from notifications.outbound import Post
from notifications.texts import Text, texts

GONE = (404, 410)  # the browser has given the subscription up
FINAL = (400, 413)  # what the push service will never take
TTL = timedelta(hours=4)  # how long the push service keeps it for a browser that is away, at most
TOKEN_LIVES = 12 * 3600  # seconds of a VAPID token; a push service takes at most a day


class PushChannel(HttpChannel):
    """Every subscription of a user, signed by our VAPID key."""

    name = Delivery.Channel.PUSH
    batch = 100
    max_age = TTL

    @property
    def is_on(self) -> bool:
        """With a key."""
        return bool(settings.VAPID_PRIVATE_KEY)

    def targets(self, notifications: Sequence[Notification]) -> Iterable[Target]:
        """The subscriptions of users, of what they chose."""
        wanted = preferences.wanted(self.name, notifications)
        subscriptions: dict[int, list[str]] = {}
        rows = PushSubscription.objects.filter(user_id__in={one.user_id for one in wanted})
        for pk, user_id in rows.values_list("pk", "user_id"):
            subscriptions.setdefault(user_id, []).append(str(pk))
        return [(one.pk, target) for one in wanted for target in subscriptions.get(one.user_id, ())]

    def known_targets(self) -> None:
        """Beyond number: a browser gets a handful of messages."""

    def posts(self, deliveries: Sequence[Delivery]) -> Mapping[int, Post | Failed]:
        """Encrypted for each browser."""
        subscriptions = PushSubscription.objects.in_bulk([int(delivery.target) for delivery in deliveries])
        told = texts(delivery.notification for delivery in deliveries)
        return {
            delivery.pk: _post(delivery, subscriptions.get(int(delivery.target)), told[delivery.notification_id])
            for delivery in deliveries
        }

    def judge(self, status: int) -> None:
        """What a push service means by its answers (RFC 8030)."""
        if status in GONE:
            raise SubscriptionGone
        if status in FINAL:
            raise Failed(f"HTTP {status}", permanent=True)
        super().judge(status)

    def send(self, deliveries: Sequence[Delivery]) -> Iterator[list[Outcome]]:
        """As all do, and forget the subscriptions that their browsers have given up."""
        for outcomes in super().send(deliveries):
            gone = [int(one.target) for one, failure in outcomes if isinstance(failure, SubscriptionGone)]
            PushSubscription.objects.filter(pk__in=gone).delete()
            yield outcomes


class SubscriptionGone(Failed):
    """The browser has given the subscription up."""

    def __init__(self) -> None:
        super().__init__("the subscription is gone", permanent=True)


def public_key() -> str:
    """What a browser subscribes with: the uncompressed point, in base64url."""
    point = _vapid(settings.VAPID_PRIVATE_KEY).public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return str(b64urlencode(point))


@cache
def _vapid(private_key: str) -> Vapid02:
    return Vapid02.from_raw(private_key.encode())


def _kept(delivery: Delivery) -> int:
    """Seconds that the push service keeps it for a browser that is away: a turn that is over is none to be told of."""
    expires_at = delivery.notification.expires_at
    left = TTL if expires_at is None else min(TTL, max(timedelta(), expires_at - timezone.now()))
    return int(left.total_seconds())


def _post(delivery: Delivery, subscription: PushSubscription | None, text: Text) -> Post | Failed:
    if subscription is None:
        return SubscriptionGone()
    if subscription.user_id != delivery.notification.user_id:
        return Failed("the browser is another user's now", permanent=True)
    message = {"title": text.title, "body": text.body, "url": text.url, "id": delivery.notification_id}
    keys = {"p256dh": subscription.p256dh, "auth": subscription.auth}
    try:
        body = WebPusher({"endpoint": subscription.endpoint, "keys": keys}).encode(orjson.dumps(message))["body"]
    except (WebPushException, ValueError) as error:
        return Failed(f"not to be encrypted: {type(error).__name__}", permanent=True)
    service = urlsplit(subscription.endpoint)
    claims = {
        "aud": f"{service.scheme}://{service.netloc}",
        "exp": int(time.time()) + TOKEN_LIVES,
        "sub": settings.VAPID_CONTACT,
    }
    headers = {
        **_vapid(settings.VAPID_PRIVATE_KEY).sign(claims),
        "Content-Type": "application/octet-stream",
        "Content-Encoding": "aes128gcm",
        "TTL": str(_kept(delivery)),
        "Urgency": "high",
        # One that is still kept for the browser is replaced by its repetition.
        "Topic": f"n{delivery.notification_id}",
    }
    return Post(subscription.endpoint, body, headers)
