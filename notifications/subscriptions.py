"""The browsers that a user is told in by Web Push."""

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from notifications.models import PushSubscription

MOST = 10  # browsers of one user; the one that subscribed first makes room


@transaction.atomic
def subscribe(*, user_id: int, endpoint: str, p256dh: str, auth: str) -> None:
    """Add a browser, or renew it. One that another user has signed in with before is this user's now."""
    # One at a time for each user, or two could both be the last that there is room for.
    get_user_model().objects.select_for_update(no_key=True).get(pk=user_id)
    values = {"user_id": user_id, "p256dh": p256dh, "auth": auth, "created_at": timezone.now()}
    PushSubscription.objects.update_or_create(endpoint=endpoint, defaults=values)
    mine = PushSubscription.objects.filter(user_id=user_id)
    kept = mine.order_by("-created_at", "-pk").values("pk")[:MOST]
    mine.exclude(pk__in=kept).delete()


def unsubscribe(*, user_id: int, endpoint: str | None = None) -> None:
    """Remove a browser of the user's, if it is there; without an endpoint all of them."""
    mine = PushSubscription.objects.filter(user_id=user_id)
    (mine if endpoint is None else mine.filter(endpoint=endpoint)).delete()
