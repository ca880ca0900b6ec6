"""Notifications by the REST API."""

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.exceptions import NotFound
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.status import HTTP_204_NO_CONTENT
from rest_framework.views import APIView

from notifications import preferences, services, subscriptions
from notifications.api.callers import existing_user_id_of, user_id_of
from notifications.api.serializers import (
    EndpointSerializer,
    NotificationSerializer,
    PreferencesSerializer,
    PushKeySerializer,
    SubscriptionSerializer,
)
from notifications.channels import CHANNELS
from notifications.channels.push import public_key
from notifications.models import Delivery, Notification


@extend_schema_view(
    get=extend_schema(operation_id="list_notifications", summary="Your notifications", tags=["notifications"])
)
class NotificationsView(ListAPIView[Notification]):
    """A page of the caller's notifications, newest first."""

    serializer_class = NotificationSerializer

    def get_queryset(self) -> QuerySet[Notification]:
        """The caller's own."""
        return Notification.objects.filter(user_id=user_id_of(self.request))


class ReadView(APIView):
    """Whether a notification was read."""

    @extend_schema(
        operation_id="read_notification",
        summary="Mark a notification as read",
        tags=["notifications"],
        request=None,
        responses=NotificationSerializer,
    )
    def post(self, request: Request, notification_id: int) -> Response:
        """It stays at the first time, however often it is marked."""
        notification = services.mark_read(notification_id=notification_id, user_id=user_id_of(request))
        if notification is None:
            raise NotFound("You have no such notification.")
        return Response(NotificationSerializer(notification).data)


class PreferencesView(APIView):
    """How the caller wants to be told."""

    @extend_schema(
        operation_id="get_notification_preferences",
        summary="How you want to be told",
        tags=["notifications"],
        responses=PreferencesSerializer,
    )
    def get(self, request: Request) -> Response:
        """What was chosen, and the defaults where nothing was."""
        return Response(PreferencesSerializer(preferences.of(user_id_of(request))).data)

    @extend_schema(
        operation_id="put_notification_preferences",
        summary="Choose how you want to be told",
        tags=["notifications"],
        request=PreferencesSerializer,
        responses=PreferencesSerializer,
    )
    def put(self, request: Request) -> Response:
        """All of it at once."""
        given = PreferencesSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        chosen = preferences.choose(user_id=existing_user_id_of(request), **given.validated_data)
        return Response(PreferencesSerializer(chosen).data)


class PushKeyView(APIView):
    """The key that browsers subscribe with."""

    @extend_schema(
        operation_id="get_push_key",
        summary="The key to subscribe to Web Push with",
        tags=["notifications"],
        responses=PushKeySerializer,
        extensions={"x-refusals": ["not_found"]},
    )
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """404 where Web Push is not set up."""
        _require_push()
        return Response({"public_key": public_key()})


class PushSubscriptionsView(APIView):
    """The caller's browsers that are told by Web Push."""

    @extend_schema(
        operation_id="subscribe_to_push",
        summary="Be told by Web Push in this browser",
        tags=["notifications"],
        request=SubscriptionSerializer,
        responses={204: None},
        extensions={"x-refusals": ["not_found"]},
    )
    def post(self, request: Request) -> Response:
        """Once more changes nothing. A user has ten browsers at most: the one that came first makes room."""
        _require_push()
        given = SubscriptionSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        keys = given.validated_data["keys"]
        endpoint = given.validated_data["endpoint"]
        subscriptions.subscribe(user_id=existing_user_id_of(request), endpoint=endpoint, **keys)
        return Response(status=HTTP_204_NO_CONTENT)

    @extend_schema(
        operation_id="unsubscribe_from_push",
        summary="Be told by Web Push no more",
        # Of a DELETE's body OpenAPI 3.0 knows no schema.
        description='In the browser that a body `{"endpoint": …}` names; without a body in none at all.',
        tags=["notifications"],
        request=None,
        responses={204: None},
        extensions={"x-refusals": ["invalid", "too_large", "unsupported_media_type"]},
    )
    def delete(self, request: Request) -> Response:
        """One that is not there, or another user's, is no error, and nothing happens."""
        given = EndpointSerializer(data=request.data, partial=True)
        given.is_valid(raise_exception=True)
        subscriptions.unsubscribe(user_id=user_id_of(request), **given.validated_data)
        return Response(status=HTTP_204_NO_CONTENT)


def _require_push() -> None:
    if not CHANNELS[Delivery.Channel.PUSH].is_on:
        raise NotFound("Web Push is not set up here.")
