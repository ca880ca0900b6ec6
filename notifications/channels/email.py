"""E-mail, as HTML and as text, in the user's language."""

import smtplib
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.core.validators import validate_email
from django.template.loader import render_to_string
from django.utils import translation

from notifications import preferences
from notifications.channels.base import BUDGET, Channel, Failed, Outcome, Target, Unreachable
from notifications.models import Delivery, Notification
from notifications.texts import Text, texts

PERMANENT = 500  # SMTP replies from here on: the same message is never taken


class EmailChannel(Channel):
    """Over the SMTP server of `EMAIL_URL`, one connection a batch. The Message-ID tells a mail that came twice."""

    name = Delivery.Channel.EMAIL
    batch = 100
    max_age = timedelta(days=3)

    @property
    def is_on(self) -> bool:
        """With a server."""
        return settings.EMAIL_ON

    def targets(self, notifications: Sequence[Notification]) -> list[Target]:
        """Users with an address, of what they chose."""
        wanted = preferences.wanted(self.name, notifications)
        return [(one.pk, "") for one in wanted if one.user.email]

    def send(self, deliveries: Sequence[Delivery]) -> Iterator[list[Outcome]]:
        """One after the other, until the server answers no more."""
        until = time.monotonic() + BUDGET
        told = texts(delivery.notification for delivery in deliveries)
        connection = get_connection(timeout=settings.EMAIL_TIMEOUT)
        try:
            for delivery in deliveries:
                if time.monotonic() > until:
                    return
                try:
                    with self.timed():
                        _send(delivery, told[delivery.notification_id], connection)
                except Failed as failure:
                    yield [(delivery, failure)]
                    if isinstance(failure, Unreachable):
                        return
                else:
                    yield [(delivery, None)]
        finally:
            _close(connection)


def _send(delivery: Delivery, text: Text, connection: BaseEmailBackend) -> None:
    address = delivery.notification.user.email
    if not address:
        raise Failed("the user has no address any more", permanent=True)
    try:
        validate_email(address)
    except ValidationError:  # without its cause: that names the address
        raise Failed("the user's address is none", permanent=True) from None
    try:
        connection.open()
        _mail(delivery, text, address, connection).send()
    except smtplib.SMTPRecipientsRefused as error:
        code = max(refusal[0] for refusal in error.recipients.values())
        raise Failed(f"recipient refused: {code}", permanent=code >= PERMANENT) from error
    except smtplib.SMTPDataError as error:
        raise Failed(f"message refused: {error.smtp_code}", permanent=error.smtp_code >= PERMANENT) from error
    except (smtplib.SMTPException, OSError) as error:
        said = f" {error.smtp_code}" if isinstance(error, smtplib.SMTPResponseException) else ""
        raise Unreachable(type(error).__name__ + said) from error


def _mail(delivery: Delivery, text: Text, address: str, connection: BaseEmailBackend) -> EmailMultiAlternatives:
    context = {"text": text, "home": settings.PUBLIC_URL}
    domain = settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].rstrip(">")
    with translation.override(text.language):
        mail = EmailMultiAlternatives(
            subject=text.title,
            body=render_to_string("mail/notification.txt", context),
            to=[address],
            headers={"Message-ID": f"<{delivery.dedupe_key}@{domain}>", "Auto-Submitted": "auto-generated"},
            connection=connection,
        )
        mail.attach_alternative(render_to_string("mail/notification.html", context), "text/html")
    return mail


def _close(connection: BaseEmailBackend) -> None:
    """What was sent was sent, however the server takes leave."""
    try:
        connection.close()
    except (smtplib.SMTPException, OSError):
        return
