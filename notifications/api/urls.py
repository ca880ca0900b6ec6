"""`/api/v1/notifications…`"""

from django.urls import path

from notifications.api import views

urlpatterns = [
    path("notifications", views.NotificationsView.as_view(), name="api-notifications"),
    path("notifications/<int:notification_id>/read", views.ReadView.as_view(), name="api-notification-read"),
]
