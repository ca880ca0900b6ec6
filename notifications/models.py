"""Notifications: one row for each thing a user is to be told."""

from django.conf import settings
from django.db import models


class Notification(models.Model):
    """Something a user is to be told, written in the transaction that made it true.

    `key` makes writing it again harmless: one fact, one row.
    """

    class Kind(models.TextChoices):
        """What happened."""

        COUPON_ISSUED = "coupon_issued", "Coupon issued"
        CLAIM_REJECTED = "claim_rejected", "Claim rejected"

    # Each index is written once a notification: a user's is the first column of `notification_by_user`, and of a unique
    # field Django would make two.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notifications", db_index=False
    )
    kind = models.CharField(max_length=32, choices=Kind.choices)
    key = models.CharField(max_length=80, help_text="Names the fact, e.g. the kind and the claim.")
    data = models.JSONField(default=dict)
    created_at = models.DateTimeField()
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [models.Index(fields=["user", "-created_at"], name="notification_by_user")]
        constraints = [
            models.UniqueConstraint(name="notification_once_a_fact", fields=["key"]),
            models.CheckConstraint(
                name="notification_kind_known",
                condition=models.Q(kind__in=["coupon_issued", "claim_rejected"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} for user {self.user_id}"
