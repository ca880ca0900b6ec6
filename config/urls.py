"""All URLs of the `web` process."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.views.decorators.csrf import csrf_exempt
from django.views.i18n import set_language
from drf_spectacular.views import SpectacularSwaggerView

from config import accounts, health, metrics, problems, schema, signin

api_v1: list[URLPattern | URLResolver] = [
    path("", include("coupons.api.urls")),
    path("", include("events.api.urls")),
    path("", include("notifications.api.urls")),
    path("auth/token", signin.TokenView.as_view(), name="api-token"),
    path("auth/token/refresh", signin.TokenRefreshView.as_view(), name="api-token-refresh"),
]

urlpatterns = [
    path("api/v1/", include(api_v1)),
    path("api/schema", schema.schema, name="api-schema"),
    path("api/docs", SpectacularSwaggerView.as_view(url_name="api-schema"), name="api-docs"),
    re_path(r"^api(/|$)", problems.no_such_path),
    path("livez", health.livez),
    path("readyz", health.readyz),
    path("metrics", metrics.metrics),
    path("admin/login/", accounts.admin_sign_in),
    path("admin/logout/", accounts.sign_out),
    path("admin/", admin.site.urls),
    path("accounts/login", accounts.sign_in, name="login"),
    path("accounts/logout", accounts.sign_out, name="logout"),
    # Without a token of the form, which a page that is the same for everyone cannot bear: a stranger's page could at
    # worst change the language.
    path("language", csrf_exempt(set_language), name="set_language"),
    path("", include("events.pages.urls")),
    path("", include("coupons.pages.urls")),
]

handler400 = problems.bad_request
handler403 = problems.permission_denied
handler500 = problems.server_error
