"""What a notification says, in the user's language: short enough for a push, and the ground of an e-mail."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.utils import formats, timezone, translation
from django.utils.translation import gettext as _

from notifications import subjects
from notifications.models import Notification
from notifications.preferences import language_of
from notifications.subjects import Subject

Kind = Notification.Kind


@dataclass(frozen=True, slots=True)
class Text:
    """A notification in words. `url` is absolute, `action` what the link is called."""

    title: str
    body: str
    action: str
    url: str
    language: str


def texts(notifications: Iterable[Notification], *, language: str | None = None) -> dict[int, Text]:
    """The words of each notification, by its id: one look at what they are about for all of them.

    Each is in its user's language, or all are in one.
    """
    given = list(notifications)
    about = subjects.of({one.data["event_id"] for one in given if "event_id" in one.data})
    return {
        one.pk: _text(one, about.get(one.data.get("event_id", 0), subjects.UNKNOWN), language or language_of(one.user))
        for one in given
    }


def _text(notification: Notification, subject: Subject, language: str) -> Text:
    with translation.override(language):
        title, body, action = _words(notification, subject)
        path = "/coupons" if notification.kind == Kind.COUPON_ISSUED else subject.path
        # A subject is a header, too: a line break has no place in it.
        return Text(" ".join(title.split()), body, action, settings.PUBLIC_URL + path, language)


def _words(notification: Notification, subject: Subject) -> tuple[str, str, str]:
    """Title, body, and what the link is called."""
    data = notification.data
    names = {"sale": subject.title or _("The sale"), "benefit": subject.benefit}
    match notification.kind:
        case Kind.COUPON_ISSUED:
            said = _("Your coupon code is %(code)s.") % {"code": data.get("code", "")}
            body = f"{subject.benefit} · {said}" if subject.benefit else said
            return _("%(sale)s: your coupon is here") % names, body, _("See my coupons")
        case Kind.CLAIM_REJECTED:
            body = _why(data.get("reason", ""))
            return _("%(sale)s: no coupon this time") % names, body, _("See why")
        case Kind.CLAIM_HELD:
            until = data.get("expires_at")
            body = _("It is held for you until %(time)s.") % {"time": _moment(until)} if until else ""
            return _("%(sale)s: yours, once it is confirmed") % names, body, _("To the sale")
        case Kind.ADMITTED:
            body = _("Claim your coupon now: your turn is kept for a short while only.")
            return _("%(sale)s: it is your turn") % names, body, _("Claim now")
        case _other:
            opens_at = data.get("opens_at")
            body = _("The sale opens at %(time)s.") % {"time": _moment(opens_at)} if opens_at else ""
            return _("%(sale)s opens soon") % names, body, _("To the sale")


def _why(reason: str) -> str:
    match reason:
        case "sold_out":
            return _("All coupons were gone before your claim had its turn. We are sorry.")
        case "cancelled":
            return _("Your claim was cancelled. You may claim again as long as there are coupons.")
        case "payment_failed":
            return _(
                "The payment failed, so your claim was released. You may claim again as long as there are coupons."
            )
        case "hold_expired":
            return _("Your claim was not confirmed in time. You may claim again as long as there are coupons.")
        case _other:
            return _("We are sorry: your claim was accepted, but it could not be turned into a coupon.")


def _moment(text: str) -> str:
    """A moment as people write it, with the zone: what theirs is we do not know."""
    moment = timezone.localtime(datetime.fromisoformat(text))
    return f"{formats.date_format(moment, 'DATETIME_FORMAT')} ({moment.tzname()})"
