"""The app's entry in INSTALLED_APPS."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class NotificationsConfig(AppConfig):
    """The `notifications` app."""

    name = "notifications"
    verbose_name = _("Notifications")
