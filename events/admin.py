"""The admin of sales: make one, publish it, watch it, pause it, change it, close it.

Whatever touches the stock goes through `events.services`, so that the database and Redis change together. A refusal
is a message to the operator; it is never an error page.
"""
# ruff: noqa: ARG002 - the signatures are Django's

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.validators import EMPTY_VALUES
from django.db import OperationalError
from django.forms.widgets import Script
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from events import services
from events.errors import Refusal, Unavailable
from events.models import Event
from events.panel import LIVE, OPERATIONS, PHASES, left_of, levels_of, panel_of, phase_of
from events.stock import Level

if TYPE_CHECKING:  # unfold has no types; its ModelAdmin is Django's with another look
    from django.contrib.admin.views.main import ChangeList

    EventModelAdmin = admin.ModelAdmin[Event]
    EventModelForm = forms.ModelForm[Event]
else:
    from unfold.admin import ModelAdmin as EventModelAdmin

    EventModelForm = forms.ModelForm

Status = Event.Status
Mode = Event.StockMode

# What Redis knows too: a change of these goes through the service. The rest is text.
TERMS = ("quantity", "opens_at", "closes_at", "per_user_limit", "rate_per_second", "burst")
ROOM = ("waiting_room", "entry_order")  # fixed once people can join
WAY = ("strategy", "hold_seconds")  # likewise
ADMISSION = ("admission_rate", "max_active", "pass_ttl", "grace")
TEXT = ("title", "slug", "description", "benefit", "valid_until", "redis_lost_after", *ROOM, *ADMISSION)


class EventForm(EventModelForm):
    """The form of a sale. It shows again, with what was typed, when the service refused."""

    refusal = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in self.fields.keys() & {*WAY, "entry_order", *ADMISSION}:
            self.fields[name].required = False  # left empty it stays as it is: most sales need no more

    def clean(self) -> dict[str, Any] | None:
        """Say what the service said."""
        if self.refusal:
            self.add_error(None, self.refusal)
        for name in self.cleaned_data.keys() & {*WAY, "entry_order", *ADMISSION}:
            if self.cleaned_data[name] in EMPTY_VALUES:
                self.cleaned_data[name] = getattr(self.instance, name)
        return super().clean()


@admin.register(Event)
class EventAdmin(EventModelAdmin):
    """Sales."""

    form = EventForm
    list_display = ("title", "phase", "opens_at", "closes_at", "quantity", "issued", "left")
    list_filter = ("status",)
    search_fields = ("title", "slug")
    list_per_page = 50
    prepopulated_fields = {"slug": ("title",)}
    change_form_outer_before_template = "admin/events/event/panel.html"
    fieldsets = (
        (None, {"fields": ("title", "slug", "benefit", "valid_until", "description")}),
        (_("Terms"), {"fields": ("quantity", "opens_at", "closes_at", *WAY)}),
        (_("Limits"), {"fields": ("per_user_limit", "rate_per_second", "burst", "redis_lost_after")}),
        (_("Waiting room"), {"fields": (*ROOM, *ADMISSION)}),
    )

    class Media:
        css = {"all": ["admin_event/panel.css"]}
        js = [Script("admin_event/panel.js", type="module")]

    # --- Who may do what ----------------------------------------------------------------------------------------------

    def has_change_permission(self, request: HttpRequest, obj: Event | None = None) -> bool:
        """Closed is final: such a sale can only be looked at."""
        return super().has_change_permission(request, obj) and (obj is None or obj.status != Status.CLOSED)

    def has_delete_permission(self, request: HttpRequest, obj: Event | None = None) -> bool:
        """Only a draft can go, and only from its own page: what was published has claims or a history."""
        return super().has_delete_permission(request, obj) and obj is not None and obj.status == Status.DRAFT

    def get_readonly_fields(self, request: HttpRequest, obj: Event | None = None) -> tuple[str, ...]:
        """The address stays once it is public, and so do the strategy and the order in which people queue."""
        return () if obj is None or obj.status == Status.DRAFT else ("slug", *WAY, *ROOM)

    def get_prepopulated_fields(self, request: HttpRequest, obj: Event | None = None) -> dict[str, Sequence[str]]:
        """A new sale's address follows its title; an existing one's does not."""
        return super().get_prepopulated_fields(request, obj) if obj is None else {}

    # --- The list -----------------------------------------------------------------------------------------------------

    def get_changelist_instance(self, request: HttpRequest) -> "ChangeList":
        """Put the stock of all sales on the page beside them: one round trip."""
        changes = super().get_changelist_instance(request)
        levels = levels_of([event.id for event in changes.result_list if event.needs_redis])
        for event in changes.result_list:
            event.level = (levels or {}).get(event.id)
        return changes

    @admin.display(description=_("Phase"), ordering="status")
    def phase(self, event: Event) -> SafeString:
        """The phase now, or Draft."""
        phase = phase_of(event, _level_of(event))
        return format_html('<span class="phase phase-{}">{}</span>', phase, gettext(PHASES[phase]))

    @admin.display(description=_("Left"))
    def left(self, event: Event) -> str:
        """Units left to claim, or "?" where Redis does not say."""
        left = left_of(event, _level_of(event))
        if left is not None:
            return str(left)
        return "?" if event.status in LIVE else "—"

    # --- The page of a sale -------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        """The admin's, and ours for the buttons and the panel."""
        view = self.admin_site.admin_view
        return [
            path("<int:event_id>/panel", view(self.panel_view), name="events_event_panel"),
            path("<int:event_id>/operate/<slug:name>", view(self.operate_view), name="events_event_operate"),
            *super().get_urls(),
        ]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The form. Where the service refuses a change it is shown again, with the reason."""
        context = dict(extra_context or {})
        event = self.get_object(request, object_id) if object_id else None
        if event is not None:
            context |= {"panel": panel_of(event), "may_operate": super().has_change_permission(request)}
        try:
            with _told():
                return super().changeform_view(request, object_id, form_url, context)
        except Refusal as refusal:
            request.refusal = gettext(refusal.detail)  # type: ignore[attr-defined]
            return super().changeform_view(request, object_id, form_url, context)

    def get_form(
        self, request: HttpRequest, obj: Event | None = None, change: bool = False, **kwargs: Any
    ) -> type["forms.ModelForm[Event]"]:
        """The form, which knows why it was refused."""
        form = super().get_form(request, obj, change, **kwargs)
        form.refusal = getattr(request, "refusal", "")  # type: ignore[attr-defined]
        return form

    def save_model(self, request: HttpRequest, obj: Event, form: "forms.ModelForm[Event]", change: bool) -> None:
        """A new sale is a draft. Of an existing one the terms are the service's to change, for Redis must follow."""
        if not change:
            super().save_model(request, obj, form, change)
            return
        if set(form.changed_data) & set(TERMS):
            services.change(event_id=obj.pk, **{term: getattr(obj, term) for term in TERMS})
        if set(form.changed_data) & set(WAY):
            services.choose_strategy(event_id=obj.pk, strategy=obj.strategy, hold_seconds=obj.hold_seconds)
        # Never the whole row: `issued` and `epoch` have moved on since it was read.
        obj.save(update_fields=[*TEXT, "updated_at"])

    def panel_view(self, request: HttpRequest, event_id: int) -> HttpResponse:
        """The live numbers alone, for the script that keeps them fresh."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        event = get_object_or_404(Event, pk=event_id)
        return render(request, "admin/events/event/numbers.html", {"panel": panel_of(event)})

    def operate_view(self, request: HttpRequest, event_id: int, name: str) -> HttpResponse:
        """Publish, pause, resume, move or close. What cannot be undone at once is asked for twice."""
        operation = OPERATIONS.get(name)
        if operation is None:
            raise Http404
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        # As an operator, whatever the sale's state: that a closed one is closed is the service's to say.
        if not super().has_change_permission(request):
            raise PermissionDenied
        event = get_object_or_404(Event, pk=event_id)
        if operation.confirm and "confirmed" not in request.POST and operation.suits(event):
            context = self.admin_site.each_context(request)
            return render(
                request,
                "admin/events/event/confirm.html",
                {**context, "title": event.title, "panel": panel_of(event), "operation": operation},
            )
        try:
            with _told():
                event = operation.run(event_id=event_id)
        except Refusal as refusal:
            self.message_user(request, gettext(refusal.detail), messages.ERROR)
        else:
            self.log_change(request, event, operation.done)
            self.message_user(request, gettext(operation.done), messages.SUCCESS)
        return redirect("admin:events_event_change", event_id)


@contextmanager
def _told() -> Iterator[None]:
    """Make a lock or a statement that ran out of time a refusal, with what to do about it."""
    try:
        yield
    except OperationalError as error:
        raise Unavailable(
            gettext_noop(
                "The database did not answer in time: this sale's claims are being written, or it is being reconciled. "
                "Nothing was changed; try again in a minute."
            )
        ) from error


def _level_of(event: Event) -> Level | None:
    return getattr(event, "level", None)
