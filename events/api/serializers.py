"""What the API tells of an event."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from events.catalogue import catalogue
from events.models import Event, Phase

PHASES = [phase.value for phase in Phase]


class EventSerializer(serializers.ModelSerializer[Event]):
    """An event as its visitors see it."""

    phase = serializers.SerializerMethodField()
    waiting_room = serializers.SerializerMethodField(help_text="Whether one must queue before claiming.")

    class Meta:
        model = Event
        fields = [
            "id",
            "slug",
            "title",
            "description",
            "phase",
            "opens_at",
            "closes_at",
            "quantity",
            "per_user_limit",
            "waiting_room",
            "benefit",
        ]
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=PHASES))
    def get_phase(self, event: Event) -> str:
        """The phase now, by the stock that this process last heard of."""
        known = catalogue.get(event.id)
        return event.phase(now=timezone.now(), remaining=known.remaining if known else None)

    def get_waiting_room(self, event: Event) -> bool:  # noqa: ARG002
        """There is none yet."""
        return False


class StateSerializer(serializers.Serializer[Any]):
    """An event's state at a moment: the same for everyone."""

    event_id = serializers.IntegerField()
    phase = serializers.ChoiceField(choices=PHASES)
    server_time = serializers.IntegerField(help_text="Milliseconds since 1970, by the server's clock.")
    opens_at = serializers.DateTimeField()
    closes_at = serializers.DateTimeField()
    quantity = serializers.IntegerField()
    remaining = serializers.IntegerField(allow_null=True, help_text="Units left to claim; null where nobody knows.")
    waiting_room = serializers.BooleanField()
