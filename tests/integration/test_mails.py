"""E-mails, to a real mail server: in the user's language, as HTML and as text, once."""

import logging
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from events.models import Event
from notifications import delivering, preferences
from notifications.models import Delivery, Notification, SilentTarget
from notifications.services import Fact, notify
from tests.factories import make_user
from tests.outages import silent_server
from tests.receivers import Mailbox, mailing

pytestmark = pytest.mark.django_db(transaction=True)

Sale = Callable[..., Event]
Kind = Notification.Kind


@pytest.fixture
def mailbox(settings: Any) -> Iterator[Mailbox]:
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd's: a line for every command
    with mailing() as box:
        settings.EMAIL_ON = True
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", box.port, 0.5
        settings.DELIVERY_BACKOFF = 60
        settings.PUBLIC_URL = "https://coupons.example.com"
        settings.DEFAULT_FROM_EMAIL = "Seonchak <hello@coupons.example.com>"
        yield box


def tell(kind: Kind = Kind.COUPON_ISSUED, language: str = "en", **data: Any) -> Any:
    user = make_user(email=f"u{Notification.objects.count()}@example.com")
    chosen = preferences.of(user.pk)
    preferences.choose(user_id=user.pk, language=language, kinds=chosen.kinds)
    notify(kind, [Fact(user.pk, f"{user.pk}", data)])
    delivering.fan_out()
    return user


def due_now() -> None:
    Delivery.objects.filter(status="pending").update(next_try_at=timezone.now())
    SilentTarget.objects.update(retry_at=timezone.now())


def mails_sent() -> Any:
    return Delivery.objects.filter(channel="email").order_by("pk")


def test_the_user_is_written_to_as_html_and_as_text(mailbox: Mailbox, sale: Sale) -> None:
    event = sale(title="Spring <Sale>")
    user = tell(event_id=event.pk, code="ABCD-1234")
    assert delivering.deliver("email") == 1
    (mail,) = mailbox.mails
    assert mail["To"] == user.email
    assert mail["From"] == "Seonchak <hello@coupons.example.com>"
    assert mail["Subject"] == "Spring <Sale>: your coupon is here"
    delivery = mails_sent().get()
    assert mail["Message-ID"] == f"<{delivery.dedupe_key}@coupons.example.com>"
    plain, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert "Your coupon code is ABCD-1234." in plain.get_content()
    assert "https://coupons.example.com/coupons" in plain.get_content()
    assert '<html lang="en">' in html.get_content()
    assert "Spring &lt;Sale&gt;" in html.get_content()
    assert "<Sale>" not in html.get_content()
    assert 'href="https://coupons.example.com/coupons"' in html.get_content()
    ways = "https://coupons.example.com/notifications/ways"
    assert f"How you are told: {ways}" in plain.get_content()
    assert f'href="{ways}"' in html.get_content()


@pytest.mark.parametrize("kind", ["coupon_issued", "claim_rejected", "sale_opens_soon"])
def test_in_korean_for_who_reads_korean(mailbox: Mailbox, sale: Sale, kind: str) -> None:
    event = sale(title="봄맞이 행사")
    tell(Kind(kind), "ko", event_id=event.pk, opens_at=event.opens_at.isoformat())
    delivering.deliver("email")
    (mail,) = mailbox.mails
    plain = mail.get_body(("plain",))
    assert plain is not None
    words = re.sub(r"https://\S+", "", mail["Subject"] + plain.get_content()).lower()
    assert "봄맞이 행사" in mail["Subject"]
    for english in ("coupon", "sale", "opens", "account"):
        assert english not in words


def test_the_time_of_the_opening_is_told_with_its_zone(mailbox: Mailbox, sale: Sale) -> None:
    event = sale(opens_at=timezone.now() + timedelta(minutes=5))
    tell(Kind.SALE_OPENS_SOON, "en", event_id=event.pk, opens_at="2026-11-21T01:00:00+00:00")
    delivering.deliver("email")
    plain = mailbox.mails[0].get_body(("plain",))
    assert plain is not None
    assert "Nov. 21, 2026, 10 a.m. (KST)" in plain.get_content()
    assert f"https://coupons.example.com/events/{event.slug}" in plain.get_content()


def test_an_event_that_is_gone_is_written_about_without_its_name(mailbox: Mailbox) -> None:
    tell(event_id=12345)
    delivering.deliver("email")
    assert mailbox.mails[0]["Subject"] == "The sale: your coupon is here"


def test_a_refused_recipient_is_given_up_and_the_next_is_written_to(mailbox: Mailbox) -> None:
    first, second, third = tell(), tell(), tell()
    mailbox.refused = {first.email: "550 no such user", second.email: "451 come again later"}
    assert delivering.deliver("email") == 1
    assert [mail["To"] for mail in mailbox.mails] == [third.email]
    told = [(one.status, one.attempts, one.error) for one in mails_sent()]
    assert told == [
        ("dead", 1, "recipient refused: 550"),
        ("pending", 1, "recipient refused: 451"),
        ("sent", 1, ""),
    ]
    mailbox.refused = {}
    due_now()
    assert delivering.deliver("email") == 1
    assert mailbox.mails[-1]["To"] == second.email


@pytest.mark.parametrize("address", ["kim@", "kim, lee@example.com", "kim@example.com\nBcc: all@example.com"])
def test_an_address_that_is_none_costs_nobody_else_a_mail(mailbox: Mailbox, address: str) -> None:
    user, other = tell(), tell()
    User.objects.filter(pk=user.pk).update(email=address)
    assert delivering.deliver("email") == 1
    assert [mail["To"] for mail in mailbox.mails] == [other.email]
    assert [(one.status, one.error) for one in mails_sent()] == [("dead", "the user's address is none"), ("sent", "")]


def test_what_the_server_says_of_a_user_is_not_kept(mailbox: Mailbox) -> None:
    user = tell()
    mailbox.refused = {user.email: f"550 <{user.email}> is not known"}
    delivering.deliver("email")
    assert user.email not in mails_sent().get().error


def test_a_message_that_the_server_does_not_take_is_told_by_its_code(mailbox: Mailbox) -> None:
    tell()
    mailbox.answers.append("554 spam")
    delivering.deliver("email")
    assert (mails_sent().get().status, mails_sent().get().error) == ("dead", "message refused: 554")


def test_a_server_that_hangs_is_tried_by_one_mail_only(mailbox: Mailbox, settings: Any) -> None:
    tell()
    tell()
    with silent_server() as hanging:
        settings.EMAIL_PORT, port = hanging.getsockname()[1], settings.EMAIL_PORT
        assert delivering.deliver("email") == 0
    assert [one.attempts for one in mails_sent()] == [1, 0]
    assert SilentTarget.objects.get().channel == "email"
    settings.EMAIL_PORT = port
    due_now()
    assert delivering.deliver("email") == 2
    assert not SilentTarget.objects.exists()


def test_who_has_lost_the_address_meanwhile_is_not_written_to(mailbox: Mailbox) -> None:
    user = tell()
    user.email = ""
    user.save()
    delivering.deliver("email")
    assert mailbox.mails == []
    assert mails_sent().get().status == "dead"
