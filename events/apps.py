"""The app's entry in INSTALLED_APPS."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from notifications.subjects import Subject


class EventsConfig(AppConfig):
    """The `events` app. It is what `notifications` tell of."""

    name = "events"
    verbose_name = _("Events")

    def ready(self) -> None:
        """Hand the events' titles to `notifications`, which is below and cannot import them."""
        # Models can be imported only now.
        from events.models import Event  # noqa: PLC0415
        from notifications import subjects  # noqa: PLC0415

        def subjects_of(event_ids: Collection[int]) -> Mapping[int, "Subject"]:
            found = Event.objects.filter(pk__in=event_ids).only("title", "benefit", "slug")
            return {one.pk: subjects.Subject(one.title, one.benefit, f"/events/{one.slug}") for one in found}

        subjects.register(subjects_of)
