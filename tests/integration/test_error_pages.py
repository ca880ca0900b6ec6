"""The pages of errors, rendered as Django renders them: without a context, while the database is away."""

from collections.abc import Callable

import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.test import RequestFactory
from django.views import defaults
from django.views.csrf import csrf_failure

from tests.outages import no_database


@pytest.mark.parametrize(
    ("render", "status", "title"),
    [
        (lambda request: defaults.permission_denied(request, PermissionDenied()), 403, "Not allowed"),
        (csrf_failure, 403, "This page was open too long"),
        (lambda request: defaults.page_not_found(request, Http404()), 404, "Not found"),
        (defaults.server_error, 500, "Something broke"),
    ],
)
def test_an_error_has_a_page_of_ours_that_needs_no_database(
    rf: RequestFactory, render: Callable[[HttpRequest], HttpResponse], status: int, title: str
) -> None:
    with no_database():
        response = render(rf.get("/"))
    page = response.content.decode()
    assert response.status_code == status
    assert f"<title>{title} · Seonchak</title>" in page
    assert f"<h1>{title}</h1>\n    <p>" in page
    assert "/static/pages/pages.css" in page
