"""`/api/v1/notifications…` and `/api/v1/push…`"""

from django.urls import path

from notifications.api import views

urlpatterns = [
    path("notifications", views.NotificationsView.as_view(), name="api-notifications"),
    path("notifications/preferences", views.PreferencesView.as_view(), name="api-notification-preferences"),
    path("notifications/<int:notification_id>/read", views.ReadView.as_view(), name="api-notification-read"),
    path("push/key", views.PushKeyView.as_view(), name="api-push-key"),
    path("push/subscriptions", views.PushSubscriptionsView.as_view(), name="api-push-subscriptions"),
]
