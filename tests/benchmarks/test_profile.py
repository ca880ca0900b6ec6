"""Where the time of one claim goes, by the textbook and by us: the steps of a request under cProfile.

The profiler makes small functions dearer than they are: read the figures as shares.
"""

import cProfile
import json
import pstats
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings
from django.urls import clear_url_caches

from events.models import Event
from tests.benchmarks.lanes import tokens
from tests.benchmarks.test_lanes import FOLDER
from tests.factories import make_users

pytestmark = pytest.mark.benchmark

CLAIMS = 1_000
URLS = {"textbook": "tests.benchmarks.textbook_urls", "DRF": "config.urls"}
# Step: the functions whose cumulative time it is, as file and name; the first that is found counts.
STEPS: dict[str, Sequence[tuple[str, str]]] = {
    "all": [("core/handlers/wsgi.py", "__call__")],
    "the view": [("rest_framework/views.py", "dispatch")],
    "who asks": [("rest_framework/views.py", "perform_authentication")],
    "which form": [("rest_framework/views.py", "perform_content_negotiation")],
    "the body": [("rest_framework/request.py", "_load_data_and_files")],
    "the claim": [("coupons/services.py", "claim")],
    "of it, Redis": [("coupons/stock/store.py", "reserve")],
    "the message to Celery": [("celery/app/task.py", "delay")],
    "the answer": [("rest_framework/response.py", "rendered_content"), ("coupons/answers.py", "claimed")],
}


@pytest.mark.parametrize("lane", URLS)
def test_a_claim_step_by_step(lane: str, sale: Callable[..., Event], report: Callable[..., None]) -> None:
    users = make_users(CLAIMS + 100)
    event = sale(quantity=len(users))
    with override_settings(ROOT_URLCONF=URLS[lane]):
        clear_url_caches()
        handler = WSGIHandler()
        sent = tokens(users, f"profile-{lane}")
        for token in sent[:100]:
            _claim(handler, event.id, token)
        with cProfile.Profile() as profile:
            for token in sent[100:]:
                _claim(handler, event.id, token)
    clear_url_caches()
    figures = {step: round(_cumulative(profile, functions) / CLAIMS * 1e6) for step, functions in STEPS.items()}
    figures["middleware, routing, log"] = figures["all"] - figures["the view"]
    path = FOLDER / "profile.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**kept, lane: figures}, indent=2) + "\n")
    report({f"{step}, µs": value for step, value in figures.items()})


def _claim(handler: WSGIHandler, event_id: int, token: str) -> None:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": f"/api/v1/events/{event_id}/claims",
        "HTTP_HOST": "localhost",
        "HTTP_AUTHORIZATION": f"Bearer {token}",
        "CONTENT_LENGTH": "0",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(),
    }
    answer = handler(environ, lambda *_: lambda _: None)
    assert answer.status_code == 202
    answer.close()


def _cumulative(profile: cProfile.Profile, functions: Sequence[tuple[str, str]]) -> float:
    seconds = 0.0
    for (file, _, name), (_, _, _, cumulative, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if any(file.endswith(end) and name == wanted for end, wanted in functions):
            seconds = max(seconds, cumulative)
    return seconds
