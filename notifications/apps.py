"""The app's entry in INSTALLED_APPS."""

from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    """The `notifications` app."""

    name = "notifications"
