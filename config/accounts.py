"""Sign in and out of the pages and the admin, limited as signing in to the API is."""

from collections.abc import Callable
from functools import wraps

from django.contrib.auth import views
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.generic import RedirectView
from redis.exceptions import RedisError

from config import ratelimits
from events.errors import Unavailable
from events.pages.frame import page

View = Callable[..., HttpResponseBase]


def _limited(view: View) -> View:
    """Count each attempt by address and by account; `RateLimited`, or `Unavailable` where nobody can count."""

    @wraps(view)
    def counted(request: HttpRequest) -> HttpResponseBase:
        if request.method == "POST":
            try:
                ratelimits.count_address(request)
                ratelimits.count_account(request, request.POST.get("username", ""))
            except RedisError as error:
                raise Unavailable from error
        return view(request)

    return counted


def _forgetting(view: View) -> View:
    """Have the browser forget what it keeps for the user: a shared one must not tell the next of the last one's turns.

    With its service worker goes its subscription to Web Push, which needs no script that way; the push service then
    answers that it is gone, and we forget it, too.
    """

    @wraps(view)
    def forgetting(request: HttpRequest) -> HttpResponseBase:
        response = view(request)
        response.headers["Clear-Site-Data"] = '"storage"'
        return response

    return forgetting


sign_in = page(_limited(views.LoginView.as_view()))
sign_out = page(_forgetting(views.LogoutView.as_view()))
# One door: the admin's own would be a second one, in without the limits, and out without forgetting.
admin_sign_in = RedirectView.as_view(pattern_name="login", query_string=True)
