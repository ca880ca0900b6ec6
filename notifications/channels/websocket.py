"""The WebSockets that are open: at once, or not at all."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from redis.exceptions import RedisError

from notifications import live
from notifications.channels.base import Channel, Outcome, Target, Unreachable
from notifications.models import Delivery, Notification
from notifications.sockets import Frame


class WebSocketChannel(Channel):
    """Best effort: sent means handed to the gates. Who is not connected finds the notification in the list.

    The frame is `{type: "notification", notification: {id, kind, data, created_at, read_at}}`, as the REST API tells
    it; `id` tells one that came twice.
    """

    name = Delivery.Channel.WEBSOCKET
    batch = 500
    max_age = timedelta(minutes=1)

    def targets(self, notifications: Sequence[Notification]) -> list[Target]:
        """Everybody, of everything."""
        return [(notification.pk, "") for notification in notifications]

    def send(self, deliveries: Sequence[Delivery]) -> Iterator[list[Outcome]]:
        """All in one message to the gates."""
        try:
            with self.timed():
                live.publish([_frame(delivery.notification) for delivery in deliveries])
        except RedisError as error:
            yield [(deliveries[0], Unreachable(type(error).__name__))]
        else:
            yield [(delivery, None) for delivery in deliveries]


def _frame(notification: Notification) -> tuple[int, Frame]:
    told = {"id": notification.pk, "kind": notification.kind, "data": notification.data}
    told |= {"created_at": notification.created_at, "read_at": notification.read_at}
    return notification.user_id, {"type": "notification", "notification": told}
