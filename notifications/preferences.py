"""By which ways users want to be told of what.

Over WebSocket, and in the list of notifications, everybody is told of everything. E-mail and Web Push are chosen.
Webhooks are the operators', and no user's choice.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ObjectDoesNotExist

from notifications.models import Delivery, Notification, Preferences

Channel = Delivery.Channel
Kind = Notification.Kind

CHOOSABLE = (Channel.EMAIL, Channel.PUSH)
DEFAULTS: dict[str, frozenset[str]] = {
    Kind.COUPON_ISSUED: frozenset({Channel.EMAIL}),
    Kind.CLAIM_REJECTED: frozenset({Channel.EMAIL}),
    Kind.CLAIM_HELD: frozenset({Channel.EMAIL}),
    Kind.ADMITTED: frozenset({Channel.PUSH}),  # a mail would come too late
    Kind.SALE_OPENS_SOON: frozenset({Channel.EMAIL, Channel.PUSH}),
}

Choices = dict[str, dict[str, bool]]  # {kind: {channel: whether}}


@dataclass(frozen=True, slots=True)
class Chosen:
    """What holds for a user: the language, and for every kind every channel that can be chosen."""

    language: str
    kinds: Choices


def of(user_id: int) -> Chosen:
    """What holds for the user."""
    row = Preferences.objects.filter(pk=user_id).first() or Preferences(language=settings.DEFAULT_LANGUAGE)
    kinds = {kind: {channel.value: _wants(row.choices, kind, channel) for channel in CHOOSABLE} for kind in Kind.values}
    return Chosen(row.language, kinds)


def choose(*, user_id: int, language: str, kinds: Choices) -> Chosen:
    """Put these in the place of what the user chose before."""
    Preferences.objects.update_or_create(user_id=user_id, defaults={"language": language, "choices": kinds})
    return of(user_id)


def wanted(channel: str, notifications: Sequence[Notification]) -> list[Notification]:
    """Those that their users want to be told of by a channel that can be chosen."""
    users = {notification.user_id for notification in notifications}
    rows = dict(Preferences.objects.filter(pk__in=users).values_list("user_id", "choices"))
    return [one for one in notifications if _wants(rows.get(one.user_id, {}), one.kind, channel)]


def language_of(user: User) -> str:
    """The language that the user is written to in. Reads no row where the preferences were selected with the user."""
    language: str = settings.DEFAULT_LANGUAGE
    with suppress(ObjectDoesNotExist):
        language = user.notification_preferences.language
    return language


def _wants(choices: Choices, kind: str, channel: str) -> bool:
    return choices.get(kind, {}).get(channel, channel in DEFAULTS[kind])
