"""The ways by which users are told: a class each, all with the contract of `Channel`."""

from notifications.channels.base import Channel
from notifications.channels.email import EmailChannel
from notifications.channels.push import PushChannel
from notifications.channels.webhook import WebhookChannel
from notifications.channels.websocket import WebSocketChannel

CHANNELS: dict[str, Channel] = {
    channel.name: channel for channel in (WebSocketChannel(), EmailChannel(), WebhookChannel(), PushChannel())
}


def switched_on() -> list[Channel]:
    """Those that the settings provide for."""
    return [channel for channel in CHANNELS.values() if channel.is_on]
