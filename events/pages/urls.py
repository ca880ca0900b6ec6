"""URLs of the pages of sales."""

from django.urls import path

from events.pages import account, views

app_name = "event_pages"

urlpatterns = [
    path("", views.home, name="home"),
    path("events/<slug:slug>", views.event, name="event"),
    path("events/<slug:slug>/remind", account.remind, name="remind"),
    path("notifications", account.notifications, name="notifications"),
    path("notifications/ways", account.ways, name="ways"),
    path("notifications/read", account.read_all, name="read_all"),
    path("notifications/<int:notification_id>", account.read, name="read"),
    path("accounts/token", account.token, name="token"),
]
