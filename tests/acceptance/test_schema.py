"""The OpenAPI description: valid, complete, and true of what a real server does."""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.core.management import call_command
from django.urls import URLPattern, URLResolver

from config.urls import api_v1
from coupons import issuing
from tests.api_kit import Caller, token_of
from tests.factories import make_user

# So many requests an operation and phase; the edges of each parameter come on top.
EXAMPLES = 15


def test_the_description_is_valid_and_without_a_warning(capsys):
    call_command("spectacular", "--validate", "--fail-on-warn")
    assert "operationId: claim\n" in capsys.readouterr().out


def test_the_server_does_what_the_description_says(server, sale, store, tmp_path: Path):
    web = server(SIGN_IN_RATE_PER_ADDRESS="100000/s", SIGN_IN_RATE_PER_ACCOUNT="100000/s")
    user, event = make_user(), sale(rate_per_second=1000, burst=1000, per_user_limit=2**15 - 1)
    Caller(user).claim(event.id)
    issuing.issue_claims(event.id, store)
    command = ["st", "run", f"http://127.0.0.1:{web.port}/api/schema", "--seed", "1", "--max-examples", str(EXAMPLES)]
    run = subprocess.run(
        [Path(sys.executable).parent / command[0], *command[1:], "-H", f"Authorization: Bearer {token_of(user)}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_endpoint_is_described():
    patterns = [str(one.pattern) for one in _endpoints(api_v1)]
    described = Caller().get("/api/schema").json()["paths"]
    assert {re.sub(r"<\w+:(\w+)>", r"{\1}", f"/api/v1/{one}") for one in patterns} == set(described)


def _endpoints(patterns: Iterable[URLPattern | URLResolver]) -> Iterator[URLPattern]:
    for one in patterns:
        if isinstance(one, URLPattern):
            yield one
        else:
            yield from _endpoints(one.url_patterns)


@pytest.mark.django_db  # the end of a request looks at a connection that an earlier test has left open
def test_the_docs_load_nothing_from_elsewhere(client):
    response = client.get("/api/docs")
    assert response.status_code == 200
    page = response.content.decode()
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(loaded) >= 3
    assert all(one.startswith("/static/") for one in loaded)
    for one in loaded:
        with closing(client.get(one)) as file:
            assert file.status_code == 200
