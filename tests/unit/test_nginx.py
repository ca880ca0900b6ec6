"""What can be checked of deploy/nginx.conf without nginx: which lane gets what, and that its numbers fit ours."""

import re

import pytest
from django.conf import settings
from django.urls import get_resolver

from config.gate import Gate
from tests.servers import ROOT

CONF = re.sub(r"#.*", "", (ROOT / "deploy" / "nginx.conf").read_text())


def lanes() -> list[tuple[re.Pattern[str], str]]:
    block = CONF[CONF.index("$lane {") :].partition("{")[2].partition("\n    }")[0]
    return [(re.compile(pattern), lane) for pattern, lane in re.findall(r'"~([^"]+)"\s+(\w+);', block)]


def lane_of(method: str, path: str) -> str:
    return next((lane for pattern, lane in lanes() if pattern.search(f"{method} {path}")), "web")


async def nobody(*_: object) -> None:
    raise AssertionError


def test_whatever_the_gate_serves_is_sent_to_it() -> None:
    routes = Gate(nobody)._routes
    assert len(routes) >= 5
    for method, name, argument in routes:
        path = f"/api/v1/events/12/{name}" + ("/12-1-7" if argument else "")
        assert lane_of(method, path) == "gate", (method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/events/12/claims"),
        ("POST", "/api/v1/events/12/claims/12-1-7"),
        ("POST", "/api/v1/events/12/state"),
        ("POST", "/api/v1/events/12/claims/"),
        ("GET", "/api/v1/events/12"),
        ("GET", "/api/v1/events/x/state"),
        ("POST", "/api/v1/auth/token"),
        ("GET", "/x/api/v1/events/12/state"),
        ("GET", "/"),
    ],
)
def test_all_else_is_not(method: str, path: str) -> None:
    assert lane_of(method, path) == "web"


def test_every_block_is_closed_and_every_directive_ended() -> None:
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "''", CONF)
    assert text.count("{") == text.count("}")
    assert {line for line in map(str.strip, text.splitlines()) if line and line[-1] not in "{};"} == set()


def test_its_numbers_fit_ours() -> None:
    upstream_keep_alive = [int(seconds) for seconds in re.findall(r"\n        keepalive_timeout (\d+)s", CONF)]
    assert len(upstream_keep_alive) == 2
    assert max(upstream_keep_alive) < settings.SERVER_KEEP_ALIVE, "nginx must be the first to close"
    api = CONF[CONF.index("location /api/") :]
    assert f"client_max_body_size {settings.API_BODY_LIMIT // 1024}k;" in api.partition("\n        }")[0]
    assert f"of {settings.API_BODY_LIMIT} bytes" in CONF
    assert f"backlog={settings.SERVER_BACKLOG};" in CONF
    assert re.search(r"proxy_set_header X-Forwarded-For (\S+);", CONF)
    assert set(re.findall(r"X-Forwarded-For (\S+);", CONF)) == {"$proxy_add_x_forwarded_for"}


def test_the_paths_that_it_treats_apart_exist() -> None:
    locations = re.findall(r"location (/\w+/) ", CONF)
    assert set(locations) == {"/api/", "/ws/", "/events/", "/static/"}
    known = {str(pattern.pattern).split("/")[0] for pattern in get_resolver().url_patterns} | {"events"}
    assert {one.strip("/") for one in locations} - known <= {"ws", "static"}


def test_websockets_are_handed_on_and_may_be_quiet_between_two_pings() -> None:
    block = CONF[CONF.index("location /ws/ {") :].partition("\n        }")[0]
    for directive in ("Upgrade $http_upgrade", "Connection upgrade", "Host $http_host"):
        assert f"proxy_set_header {directive};" in block
    assert "proxy_pass http://gate;" in block
    (patience,) = re.findall(r"proxy_read_timeout (\d+)s;", block)
    assert int(patience) > 2 * settings.LIVE_PING
