"""The admin of notifications: to look at."""
# ruff: noqa: ARG002 - the signatures are Django's

from typing import TYPE_CHECKING

from django.contrib import admin
from django.http import HttpRequest

from notifications.models import Notification

if TYPE_CHECKING:  # unfold has no types; its ModelAdmin is Django's with another look
    NotificationModelAdmin = admin.ModelAdmin[Notification]
else:
    from unfold.admin import ModelAdmin as NotificationModelAdmin


@admin.register(Notification)
class NotificationAdmin(NotificationModelAdmin):
    """What users were told. Written with what it tells of, never by hand."""

    list_display = ("kind", "user", "created_at", "read_at")
    list_select_related = ("user",)
    list_filter = ("kind",)
    list_per_page = 50
    show_full_result_count = False
    search_fields = ("key",)
    search_help_text = "Part of the key: the kind, or the claim (7-1-42)"

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Notification | None = None) -> bool:
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Notification | None = None) -> bool:
        """Nobody."""
        return False
