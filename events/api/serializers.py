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
    waiting_room = serializers.BooleanField(help_text="Whether one must queue before claiming.")

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


class QueueSerializer(serializers.Serializer[Any]):
    """What everyone may know of a waiting room."""

    serving = serializers.IntegerField(help_text="People whose turn has come so far: it only grows.")
    waiting = serializers.IntegerField(help_text="People in line.")
    order = serializers.ChoiceField(choices=Event.EntryOrder.values)
    seed_hash = serializers.CharField(allow_null=True, help_text="SHA-256 of the seed of a shuffle, in hex.")
    seed = serializers.CharField(allow_null=True, help_text="The seed, told from the opening on.")


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
    queue = QueueSerializer(required=False, help_text="Of an event with a waiting room.")


class TicketSerializer(serializers.Serializer[Any]):
    """A place in the waiting room, as its owner sees it."""

    number = serializers.IntegerField(help_text="Given in the order in which people joined.")
    position = serializers.IntegerField(allow_null=True, help_text="1: next. Null before the opening of a shuffle.")
    ahead = serializers.IntegerField(allow_null=True, help_text="People of the same lane whose turn comes before.")
    eta_seconds = serializers.IntegerField(allow_null=True, help_text="Until the turn comes, by the pace of late.")
    status = serializers.ChoiceField(choices=["waiting", "admitted"])
    pass_expires_at = serializers.DateTimeField(allow_null=True, help_text="The end of the right to claim.")
    poll_after_ms = serializers.IntegerField(help_text="When to ask again, in milliseconds from now.")
    odds = serializers.FloatField(allow_null=True, help_text="The chance that a unit is left then, 0 to 1.")
