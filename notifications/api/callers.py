"""Who asks. In the lowest of the apps, so that all may import it."""

from django.contrib.auth import get_user_model
from rest_framework.exceptions import NotAuthenticated
from rest_framework.request import Request


def user_id_of(request: Request) -> int:
    """The key of the user who asks, by their token: no user is read for it."""
    if request.user.pk is None:
        raise NotAuthenticated
    return request.user.pk


def existing_user_id_of(request: Request) -> int:
    """The same, of a user who is still there: rows can be written for them. One query."""
    user_id = user_id_of(request)
    if not get_user_model().objects.filter(pk=user_id, is_active=True).exists():
        raise NotAuthenticated
    return user_id
