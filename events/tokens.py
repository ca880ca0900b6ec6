"""The tokens that a user signs in by: all that the hot path will know of them is in there."""

from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework_simplejwt.tokens import RefreshToken

if TYPE_CHECKING:
    from django.contrib.auth.models import User

FIRST_LANE, LAST_LANE = 0, 1  # of a waiting room


def lane_of(user: "User") -> int:
    """The user's lane in waiting rooms. One query."""
    return FIRST_LANE if user.groups.filter(name=settings.FIRST_LANE_GROUP).exists() else LAST_LANE


def token_of(user: "User") -> RefreshToken:
    """A refresh token, whose `access_token` bears the user's lane as well. One query."""
    token = RefreshToken.for_user(user)
    token["lane"] = lane_of(user)
    return token
