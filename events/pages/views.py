"""The list of sales, and one sale."""

import secrets

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from events.models import Event
from events.pages.frame import page
from events.pages.shown import find, show

CURRENT_AT_MOST = 100
PAST_AT_MOST = 20


@page
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """The sales that are on or to come, the next to open first, and the last that are over."""
    over = Q(status=Event.Status.CLOSED) | Q(closes_at__lte=timezone.now())
    public = Event.objects.public()
    current = public.exclude(over).order_by("opens_at", "id")[:CURRENT_AT_MOST]
    past = public.filter(over).order_by("-closes_at", "-id")[:PAST_AT_MOST]
    context = {"current": [show(event) for event in current], "past": [show(event) for event in past]}
    return render(request, "pages/home.html", context)


@page
@never_cache  # it bears the visitor's own key
@require_safe
def event(request: HttpRequest, slug: str) -> HttpResponse:
    """One sale. The key in its form makes a second click on the button find the claim of the first."""
    context = {"shown": show(find(slug)), "key": secrets.token_urlsafe(16)}
    return render(request, "pages/event.html", context)
