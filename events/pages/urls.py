"""URLs of the pages of sales."""

from django.urls import path

from events.pages import views

app_name = "event_pages"

urlpatterns = [
    path("", views.home, name="home"),
    path("events/<slug:slug>", views.event, name="event"),
]
