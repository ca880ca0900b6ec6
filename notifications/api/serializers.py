"""What the API tells of a notification."""

from rest_framework import serializers

from notifications.models import Notification


class NotificationSerializer(serializers.ModelSerializer[Notification]):
    """Something the caller is told."""

    data = serializers.DictField(  # type: ignore[assignment] # a field's name is not the serializer's attribute
        help_text="What it is about; the fields hang on the kind."
    )

    class Meta:
        model = Notification
        fields = ["id", "kind", "data", "created_at", "read_at"]
        read_only_fields = fields
