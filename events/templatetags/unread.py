"""How many notifications the visitor has not read, for the head of each page."""

from typing import Any

from django import template

from notifications.services import unread_of

register = template.Library()


@register.simple_tag
def unread(user: Any) -> int:
    """Their number; 0 for a guest, and on a page that is written without a visitor. One query."""
    return unread_of(user.pk) if user and user.is_authenticated else 0
