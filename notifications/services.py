"""What users do with their notifications."""

from django.utils import timezone

from notifications.models import Notification


def mark_read(*, notification_id: int, user_id: int) -> Notification | None:
    """Note when the user read it, the first time; None where the user has no such notification."""
    mine = Notification.objects.filter(pk=notification_id, user_id=user_id)
    mine.filter(read_at__isnull=True).update(read_at=timezone.now())
    return mine.first()
