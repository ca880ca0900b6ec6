"""Notifications by the REST API."""

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.exceptions import NotFound
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from notifications import services
from notifications.api.callers import user_id_of
from notifications.api.serializers import NotificationSerializer
from notifications.models import Notification


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
