"""The tokens that a user signs in by: all that the hot path will know of them is in there."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from rest_framework_simplejwt.tokens import RefreshToken

if TYPE_CHECKING:
    from django.contrib.auth.models import User

FIRST_LANE, LAST_LANE = 0, 1  # of a waiting room
PAGE_LIFETIME = timedelta(minutes=5)  # of the token of a page, which asks for the next while it is open


def lane_of(user: "User") -> int:
    """The user's lane in waiting rooms. One query."""
    return FIRST_LANE if user.groups.filter(name=settings.FIRST_LANE_GROUP).exists() else LAST_LANE


def token_of(user: "User") -> RefreshToken:
    """A refresh token, whose `access_token` bears the user's lane as well. One query."""
    token = RefreshToken.for_user(user)
    token["lane"] = lane_of(user)
    return token


def page_token(user: "User") -> dict[str, Any]:
    """An access token for a page to ask the API with; none where tokens are issued elsewhere. One query."""
    if not settings.SIMPLE_JWT["SIGNING_KEY"]:
        return {"token": None, "token_ms": 0}
    token = token_of(user).access_token
    token.set_exp(lifetime=PAGE_LIFETIME)
    return {"token": str(token), "token_ms": int(PAGE_LIFETIME.total_seconds() * 1000)}
