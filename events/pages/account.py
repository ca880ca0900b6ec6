"""What is the visitor's own beside coupons: notifications, reminders of sales to come, a token for scripts."""

from contextlib import suppress
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from events import reminders
from events.pages.frame import page
from events.pages.languages import BY_URL
from events.pages.shown import find
from events.tokens import page_token
from notifications import preferences, services
from notifications.models import Notification
from notifications.texts import texts

NOTIFICATIONS_A_PAGE = 30


@page
@never_cache
@require_safe
@login_required
def notifications(request: HttpRequest) -> HttpResponse:
    """All that the visitor was told, newest first, in the language of the page."""
    mine = Notification.objects.filter(user=request.user)  # type: ignore[misc]
    pages = Paginator(mine, NOTIFICATIONS_A_PAGE).get_page(request.GET.get("page"))
    words = texts(pages, language=translation.get_language())
    told = [(one, words[one.pk]) for one in pages]
    return render(request, "pages/notifications.html", {"page": pages, "told": told})


@page
@never_cache
@require_safe
@login_required
def read(request: HttpRequest, notification_id: int) -> HttpResponse:
    """Note that one was read, and go where it leads."""
    one = services.mark_read(notification_id=notification_id, user_id=request.user.pk)  # type: ignore[arg-type]
    if one is None:
        raise Http404
    return redirect(urlsplit(texts([one], language=translation.get_language())[one.pk].url).path)


@page
@never_cache
@require_POST
@login_required
def read_all(request: HttpRequest) -> HttpResponse:
    """Note that all were read."""
    services.mark_all_read(user_id=request.user.pk)  # type: ignore[arg-type]
    return redirect("event_pages:notifications")


@page
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def ways(request: HttpRequest) -> HttpResponse:
    """By which ways the visitor wants to be told of what, and in which language."""
    user_id: int = request.user.pk  # type: ignore[assignment]
    if request.method == "POST":
        chosen = preferences.of(user_id)
        language = request.POST.get("language", "")
        kinds = {
            kind: {channel: f"{kind}.{channel}" in request.POST for channel in channels}
            for kind, channels in chosen.kinds.items()
        }
        language = language if language in dict(settings.LANGUAGES) else chosen.language
        preferences.choose(user_id=user_id, language=language, kinds=kinds)
        messages.success(request, gettext("Your choice is saved."))
        return redirect("event_pages:ways")
    chosen = preferences.of(user_id)
    rows = [(kind, kind.label, chosen.kinds[kind]) for kind in Notification.Kind]
    return render(request, "pages/ways.html", {"language": chosen.language, "rows": rows})


@page
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def remind(request: HttpRequest, slug: str) -> HttpResponse:
    """Be told before a sale opens, or be told no more: for who has no scripts."""
    event = find(slug)
    whose = {"event_id": event.pk, "user_id": request.user.pk}
    if request.method != "POST":
        return render(request, "pages/remind.html", {"event": event, "asked": reminders.is_asked(**whose)})  # type: ignore[arg-type]
    if "forget" in request.POST:
        reminders.forget(**whose)  # type: ignore[arg-type]
    else:
        with suppress(reminders.OpenedAlready):  # the page of the sale says so
            reminders.ask(**whose)  # type: ignore[arg-type]
    return redirect(f"{reverse('event_pages:event', args=[slug])}?{BY_URL}={translation.get_language()}")


@page
@never_cache
@require_safe
def token(request: HttpRequest) -> HttpResponse:
    """A token for the scripts of a page that is the visitor's own; null for a guest."""
    return JsonResponse(page_token(request.user) if request.user.is_authenticated else {"token": None, "token_ms": 0})
