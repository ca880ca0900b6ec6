"""The admin of notifications: what users were told, how it was delivered, and the webhooks."""
# ruff: noqa: ARG002 - the signatures are Django's

from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from notifications import delivering, outbound
from notifications.channels.webhook import new_secret
from notifications.models import Delivery, Notification, SilentTarget, WebhookEndpoint

if TYPE_CHECKING:  # unfold has no types; its ModelAdmin is Django's with another look
    AnyModelAdmin = admin.ModelAdmin[Any]
    EndpointModelForm = forms.ModelForm[WebhookEndpoint]
    Checkboxes = forms.CheckboxSelectMultiple
else:
    from unfold.admin import ModelAdmin as AnyModelAdmin
    from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget as Checkboxes

    EndpointModelForm = forms.ModelForm


class ReadOnlyAdmin(AnyModelAdmin):
    """Rows that services write and people only read."""

    list_per_page = 50
    show_full_result_count = False  # it would count the whole table for one line of text

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: a row here stands for something that happened."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Nobody."""
        return False


@admin.register(Notification)
class NotificationAdmin(ReadOnlyAdmin):
    """What users were told. Written with what it tells of, never by hand."""

    list_display = ("kind", "user", "created_at", "read_at")
    list_select_related = ("user",)
    list_filter = ("kind",)
    search_fields = ("key",)
    search_help_text = _("Part of the key: the kind, or the claim (7-1-42)")


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """The delivery log. What is dead can be sent again, and what was sent, too: receivers know it by its key."""

    list_display = (
        "key",
        "kind",
        "channel",
        "status",
        "attempts",
        "error",
        "created_at",
        "next_try",
        "finished_at",
    )
    list_select_related = ("notification",)
    list_filter = ("status", "channel", "notification__kind")
    search_fields = ("notification_id__exact", "target__exact")
    search_help_text = _("A notification's id, or the number of a webhook endpoint")
    actions = ("replay",)
    list_before_template = "admin/notifications/kept.html"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """With how far the log goes back."""
        return super().changelist_view(request, {**(extra_context or {}), "days_kept": settings.DELIVERIES_KEPT})

    @admin.display(description=_("key"))
    def key(self, delivery: Delivery) -> str:
        """What receivers know it by."""
        return delivery.dedupe_key

    @admin.display(description=_("kind"))
    def kind(self, delivery: Delivery) -> str:
        """What it tells."""
        return delivery.notification.get_kind_display()

    @admin.display(description=_("next attempt at"))
    def next_try(self, delivery: Delivery) -> Any:
        """Of one that is not finished."""
        return delivery.next_try_at if delivery.status == Delivery.Status.PENDING else None

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whoever may change deliveries may replay them; nobody may write their fields."""
        return request.user.has_perm("notifications.change_delivery")

    @admin.action(description=_("Send again"), permissions=["operate"])
    def replay(self, request: HttpRequest, queryset: "QuerySet[Delivery]") -> None:
        """Put the selected ones back to the beginning."""
        number = delivering.replay(queryset)
        told = ngettext("%(number)d delivery is sent again.", "%(number)d deliveries are sent again.", number)
        self.message_user(request, told % {"number": number})


@admin.register(SilentTarget)
class SilentTargetAdmin(ReadOnlyAdmin):
    """Targets that do not answer now. A row goes when its target is back."""

    list_display = ("channel", "target", "failures", "retry_at")


class EndpointForm(EndpointModelForm):
    """The form of a webhook endpoint."""

    kinds = forms.MultipleChoiceField(label=_("kinds"), choices=Notification.Kind.choices, widget=Checkboxes)

    def clean_url(self) -> str:
        """Refuse what could never be sent to."""
        url: str = self.cleaned_data["url"]
        try:
            outbound.check(url)
        except outbound.NotAllowed as refusal:
            raise ValidationError(str(refusal)) from refusal
        return url


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(AnyModelAdmin):
    """The operators' webhooks. A secret is shown once, when it is made."""

    form = EndpointForm
    list_display = ("name", "url", "active", "created_at")
    list_filter = ("active",)
    fields = ("name", "url", "kinds", "active")
    actions = ("renew_secret",)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """An address without a scheme is meant to be a good one."""
        if isinstance(db_field, models.URLField):
            kwargs["assume_scheme"] = "https"
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Nobody: it is switched off, and its deliveries stay to be looked at."""
        return False

    def save_model(self, request: HttpRequest, obj: WebhookEndpoint, form: Any, change: bool) -> None:
        """A new one gets its secret."""
        if change:
            obj.save(update_fields=self.fields)
        else:
            self._give_secret(request, obj)

    @admin.action(description=_("Make a new secret"), permissions=["change"])
    def renew_secret(self, request: HttpRequest, queryset: "QuerySet[WebhookEndpoint]") -> None:
        """The old one is good for nothing from now on."""
        for endpoint in queryset:
            self._give_secret(request, endpoint)
            self.log_change(request, endpoint, "A new secret was made.")

    def _give_secret(self, request: HttpRequest, endpoint: WebhookEndpoint) -> None:
        endpoint.secret = new_secret()
        endpoint.save()
        told = _("The secret of “%(name)s”, which is shown this once: %(secret)s")
        self.message_user(request, told % {"name": endpoint.name, "secret": endpoint.secret}, messages.WARNING)
