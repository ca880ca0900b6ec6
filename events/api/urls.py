"""`/api/v1/events…`"""

from django.urls import path

from events.api import converters, views

__all__ = ["converters", "urlpatterns"]

urlpatterns = [
    path("events", views.EventsView.as_view(), name="api-events"),
    path("events/<event_id:event_id>", views.EventView.as_view(), name="api-event"),
    path("events/<event_id:event_id>/state", views.StateView.as_view(), name="api-event-state"),
    path("events/<event_id:event_id>/queue", views.QueueView.as_view(), name="api-queue"),
    path("events/<event_id:event_id>/reminder", views.ReminderView.as_view(), name="api-event-reminder"),
]
