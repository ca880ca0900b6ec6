"""The list of sales, and one sale."""

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import timezone, translation
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page, require_safe

from events.models import Event
from events.pages import languages
from events.pages.frame import page
from events.pages.shown import find, show

CURRENT_AT_MOST = 100
PAST_AT_MOST = 20
KEPT_FOR = 5  # seconds that a cache may give out the page of a sale; its script asks for newer numbers itself


@page
@require_safe
@cache_control(private=True)
def home(request: HttpRequest) -> HttpResponse:
    """The sales that are on or to come, the next to open first, and the last that are over; and who looks."""
    over = Q(status=Event.Status.CLOSED) | Q(closes_at__lte=timezone.now())
    public = Event.objects.public()
    current = public.exclude(over).order_by("opens_at", "id")[:CURRENT_AT_MOST]
    past = public.filter(over).order_by("-closes_at", "-id")[:PAST_AT_MOST]
    context = {"current": [show(event) for event in current], "past": [show(event) for event in past]}
    return render(request, "pages/home.html", context)


@page
@require_safe
@conditional_page
@cache_control(public=True, max_age=KEPT_FOR)
def event(request: HttpRequest, slug: str) -> HttpResponse:
    """One sale, as everyone sees it: a cache can give it to all of a rush. The visitor's part comes by its script.

    It is written without the visitor, and so can tell nobody anything of another: of the request only the language is
    looked at, which the address names, or else the browser. A choice that a cookie bears is in our links and in the
    script (ADR 0010).
    """
    by_url = languages.of_url(request)
    language = by_url or languages.of_browser(request)
    with translation.override(language):
        response = HttpResponse(render_to_string("pages/event.html", {"shown": show(find(slug)), "by_url": by_url}))
    response.headers["Content-Language"] = language
    if by_url is None:
        patch_vary_headers(response, ("Accept-Language",))
    return response
