"""Events by the REST API."""

from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.exceptions import ValidationError
from rest_framework.generics import ListAPIView, RetrieveAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.status import HTTP_204_NO_CONTENT
from rest_framework.views import APIView

from events import reminders
from events.api.serializers import EventSerializer, StateSerializer, TicketSerializer
from events.models import Event
from events.state import state
from events.tokens import LAST_LANE
from events.waiting_room import service
from events.waiting_room.views import LEFT
from notifications.api.callers import existing_user_id_of, user_id_of

CACHE_CONTROL = OpenApiParameter(
    "Cache-Control", OpenApiTypes.STR, OpenApiParameter.HEADER, required=True, response=[200]
)


@extend_schema_view(get=extend_schema(operation_id="list_events", summary="All events", tags=["events"]))
class EventsView(ListAPIView[Event]):
    """A page of the events, those that open last first. Drafts are not shown."""

    authentication_classes = ()
    permission_classes = ()
    serializer_class = EventSerializer

    def get_queryset(self) -> QuerySet[Event]:
        """What visitors may see."""
        return Event.objects.public()


@extend_schema_view(get=extend_schema(operation_id="get_event", summary="One event", tags=["events"]))
class EventView(RetrieveAPIView[Event]):
    """An event with what it gives. Its state is told faster by `/state`."""

    authentication_classes = ()
    permission_classes = ()
    serializer_class = EventSerializer
    lookup_url_kwarg = "event_id"

    def get_queryset(self) -> QuerySet[Event]:
        """What visitors may see."""
        return Event.objects.public()


class StateView(APIView):
    """Where an event stands, from the memory of the process."""

    authentication_classes = ()
    permission_classes = ()

    @extend_schema(
        operation_id="get_event_state",
        summary="Where an event stands",
        tags=["events"],
        responses=StateSerializer,
        parameters=[CACHE_CONTROL],
    )
    def get(self, request: Request, event_id: int) -> HttpResponse:
        """At most about a second old; no query and no Redis behind it. Everyone gets the same: caches may keep it."""
        return state(event_id, if_none_match=request.META.get("HTTP_IF_NONE_MATCH")).as_response()


class QueueView(APIView):
    """The caller's place in the waiting room of an event."""

    @extend_schema(
        operation_id="join_queue",
        summary="Join the waiting room",
        tags=["queue"],
        request={"application/json": {"type": "object", "description": "Nothing is read from it."}},
        responses=TicketSerializer,
        extensions={"x-refusals": ["already_claimed", "sold_out", "closed", "rate_limited", "not_found"]},
    )
    def post(self, request: Request, event_id: int) -> HttpResponse:
        """Take a place, or learn where the one stands that was taken. Come again after `poll_after_ms`."""
        if not isinstance(request.data, dict):
            raise ValidationError({"non_field_errors": ["The body must be a JSON object, or none at all."]})
        return service.visit(event_id, user_id_of(request), _lane_of(request), "join").as_answer().as_response()

    @extend_schema(
        operation_id="get_ticket",
        summary="Where you stand",
        tags=["queue"],
        responses=TicketSerializer,
        extensions={"x-refusals": ["already_claimed", "sold_out", "closed", "rate_limited", "not_found"]},
    )
    def get(self, request: Request, event_id: int) -> HttpResponse:
        """Your ticket. Asking is what moves the line on: whose turn has come gets the pass by it."""
        return service.visit(event_id, user_id_of(request), _lane_of(request), "ask").as_answer().as_response()

    @extend_schema(operation_id="leave_queue", summary="Leave the waiting room", tags=["queue"], responses={204: None})
    def delete(self, request: Request, event_id: int) -> HttpResponse:
        """Give your place up, and your pass. You may join again, at the end."""
        service.leave(event_id, user_id_of(request), _lane_of(request))
        return LEFT.as_response()


class ReminderView(APIView):
    """Whether the caller is told before an event opens."""

    @extend_schema(
        operation_id="ask_for_reminder",
        summary="Be told before the sale opens",
        tags=["events"],
        request=None,
        responses={204: None},
        extensions={"x-refusals": ["closed"]},
    )
    def post(self, request: Request, event_id: int) -> Response:
        """Once, some minutes before; asked for again it is the same."""
        reminders.ask(event_id=event_id, user_id=existing_user_id_of(request))
        return Response(status=HTTP_204_NO_CONTENT)

    @extend_schema(
        operation_id="cancel_reminder",
        summary="Be told no more before the sale opens",
        tags=["events"],
        responses={204: None},
    )
    def delete(self, request: Request, event_id: int) -> Response:
        """One that is not there is no error."""
        reminders.forget(event_id=event_id, user_id=user_id_of(request))
        return Response(status=HTTP_204_NO_CONTENT)


def _lane_of(request: Request) -> int:
    """The caller's lane, by their token."""
    lane: int = getattr(request.user, "lane", LAST_LANE)
    return lane
