"""Moments on the pages: written in the server's time zone, for a small script to show in the visitor's."""

from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.dateformat import format as written
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import pgettext

register = template.Library()


@register.simple_tag
def moment(at: datetime) -> SafeString:
    """A date and a time to the minute, with its zone."""
    return _time(at, pgettext("format of a date with a time", "j M Y, H:i T"), "minute")


@register.simple_tag
def second(at: datetime) -> SafeString:
    """A date and a time to the second, with its zone."""
    return _time(at, pgettext("format of a date with a time to the second", "j M Y, H:i:s T"), "second")


@register.simple_tag
def day(at: datetime) -> SafeString:
    """A date alone."""
    return _time(at, pgettext("format of a date", "j M Y"), "day")


def _time(at: datetime, form: str, to: str) -> SafeString:
    local = timezone.localtime(at)
    return format_html(
        '<time datetime="{}" data-to="{}">{}</time>', local.isoformat(timespec="seconds"), to, written(local, form)
    )
