"""What operators see: health, metrics and logs. The server here is a real one, in a process of its own."""

import json
import os
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

from celery.signals import task_retry
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from config import health
from config.embedded import free_port
from coupons import modes
from coupons.tasks import issue_claims
from events.catalogue import catalogue
from events.redis.breaker import State
from notifications import delivering
from notifications.models import Notification, Outbox
from notifications.services import Fact, notify
from tests import outages
from tests.api_kit import Caller, token_of
from tests.factories import make_user, make_users

ROOT = Path(__file__).resolve().parent.parent.parent


# --- Health -----------------------------------------------------------------------------------------------------------


def test_a_process_that_answers_lives_and_looks_at_nothing(client):
    with outages.no_redis(), outages.no_database():
        response = client.get("/livez")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_a_process_is_ready_while_postgresql_and_redis_answer(transactional_db, client):
    response = client.get("/readyz")
    assert (response.status_code, response.json()["status"], response.json()["down"]) == (200, "ok", [])
    assert response.json()["breakers"]["postgresql"] == State.CLOSED
    assert "no-cache" in response["Cache-Control"]


def test_a_process_is_ready_while_one_of_the_two_is_there_to_answer_claims(transactional_db, client):
    def told() -> tuple[int, str, list[str]]:
        response = client.get("/readyz")
        return response.status_code, response.json()["status"], response.json()["down"]

    with outages.no_redis():
        assert told() == (200, "degraded", ["stock"])
    with outages.no_database():
        assert told() == (200, "degraded", ["postgresql"])
    with outages.no_redis(), outages.no_database():
        assert told() == (503, "unavailable", ["postgresql", "stock"])


def test_a_check_that_hangs_is_down_and_is_not_started_again(monkeypatch):
    release, starts = threading.Event(), []

    def hang() -> None:
        starts.append(1)
        release.wait(10)

    monkeypatch.setattr(health, "PATIENCE", 0.01)
    probe = health.Probe({"hanging": hang, "fine": lambda: None})
    assert [probe.down(), probe.down()] == [["hanging"], ["hanging"]]
    assert starts == [1]
    release.set()
    monkeypatch.setattr(health, "PATIENCE", 10)
    assert probe.down() == []


# --- Metrics ----------------------------------------------------------------------------------------------------------


def metrics_of(text: str) -> dict[tuple[str, str], float]:
    """Each sample by its name and its one label."""
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_tell_what_was_answered_and_what_waits(sale, server):
    event, users, web = sale(quantity=2), make_users(3), server()

    def told() -> dict[tuple[str, str], float]:
        return metrics_of(web.ask("GET", "/metrics")[2].decode())

    assert web.claim_all(event, users) == {202, 409}
    told_of = told()
    assert told_of["seonchak_claims_total", "accepted"] == 2
    assert told_of["seonchak_claims_total", "sold_out"] == 1
    assert told_of["seonchak_script_seconds_count", ""] == 3
    assert told_of["seonchak_stock_units", str(event.id)] == 0
    assert told_of["seonchak_backlog_claims", str(event.id)] == 2
    assert 0 < told_of["seonchak_oldest_undrained_seconds", str(event.id)] < 60
    assert (told_of["seonchak_up", "postgresql"], told_of["seonchak_up", "redis"]) == (1, 1)
    assert told_of["seonchak_database_mode", str(event.id)] == 0
    modes.fall_back(event.id, epoch=1)
    assert told()["seonchak_database_mode", str(event.id)] == 1


def test_metrics_tell_how_long_users_wait_to_be_told(transactional_db, client, settings):
    def told(name: str, label: str = "") -> float:
        return metrics_of(client.get("/metrics").content.decode())[name, label]

    settings.EMAIL_ON = False
    assert told("seonchak_oldest_outbox_seconds") == told("seonchak_oldest_delivery_seconds", "websocket") == 0
    notify(Notification.Kind.ADMITTED, [Fact(make_user().pk, "1")])
    Outbox.objects.update(created_at=timezone.now() - timedelta(seconds=60))
    assert 60 <= told("seonchak_oldest_outbox_seconds") < 120
    Notification.objects.update(created_at=timezone.now() - timedelta(seconds=30))
    delivering.fan_out()
    assert told("seonchak_oldest_outbox_seconds") == 0
    assert 30 <= told("seonchak_oldest_delivery_seconds", "websocket") < 60
    delivering.deliver("websocket")
    assert told("seonchak_oldest_delivery_seconds", "websocket") == 0
    assert ("seonchak_oldest_delivery_seconds", "email") not in metrics_of(client.get("/metrics").content.decode())


def test_metrics_outlive_the_servers_they_tell_of(sale, client):
    event = sale()
    Caller(make_user()).claim(event.id)
    client.get("/metrics")
    with outages.no_redis():
        told = metrics_of(client.get("/metrics").content.decode())
    assert (told["seonchak_up", "postgresql"], told["seonchak_up", "redis"]) == (1, 0)
    assert ("seonchak_backlog_claims", str(event.id)) not in told
    with outages.no_database():
        told = metrics_of(client.get("/metrics").content.decode())
    assert (told["seonchak_up", "postgresql"], told["seonchak_up", "redis"]) == (0, 1)
    assert told["seonchak_backlog_claims", str(event.id)] == 1, "of the events last known"


def test_metrics_ask_for_the_token_where_one_is_set(db, client, settings):
    settings.METRICS_TOKEN = "prometheus-only"
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer é"}).status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer prometheus-only"}).status_code == 200


def test_operators_machines_know_a_process_by_its_address_and_nobody_else_does(transactional_db, client):
    for path in ("/livez", "/readyz", "/metrics"):
        assert client.get(path, headers={"Host": "172.18.0.5:8000"}).status_code == 200
    assert client.get("/", headers={"Host": "172.18.0.5:8000"}).status_code == 400


def test_a_retry_of_a_task_is_counted(db, client):
    name = ("seonchak_task_retries_total", "coupons.tasks.issue_claims")
    before = metrics_of(client.get("/metrics").content.decode()).get(name, 0)
    task_retry.send(sender=issue_claims, request=None, reason="the broker is away", einfo=None)
    assert metrics_of(client.get("/metrics").content.decode())[name] == before + 1


# --- A server of its own ----------------------------------------------------------------------------------------------


def test_a_server_counts_for_all_processes_logs_no_names_and_guards_its_bodies(server, sale, tmp_path):
    counts = tmp_path / "counts"
    counts.mkdir()
    web = server(PROMETHEUS_MULTIPROC_DIR=str(counts), LOG_LEVEL="INFO")
    event, user = sale(), make_user(username="kim-minji")
    bearer = {"Authorization": f"Bearer {token_of(user)}"}
    status, headers, body = web.ask(
        "POST", f"/api/v1/events/{event.id}/claims", **bearer, X_Request_ID="phone-7", Idempotency_Key="a-key"
    )
    assert (status, headers["X-Request-ID"]) == (202, "phone-7")
    claim_id = json.loads(body)["id"]
    web.ask("GET", f"/api/v1/events/{event.id}/claims/{claim_id}", **bearer, X_Request_ID="evil\tid " + "x" * 99)

    # A worker counts in the same folder. A gate that was killed had sockets open.
    elsewhere = "from coupons.metrics import ISSUED; from config.metrics import SOCKETS; ISSUED.inc(3); SOCKETS.set(7)"
    subprocess.run(
        [sys.executable, "-c", f"import django; django.setup(); {elsewhere}"],
        cwd=ROOT,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(counts)},
        check=True,
    )
    told = metrics_of(web.ask("GET", "/metrics")[2].decode())
    assert told["seonchak_claims_total", "accepted"] == 1
    assert told["seonchak_coupons_issued_total", ""] == 3
    assert told.get(("seonchak_sockets", ""), 0) == 0
    assert told["seonchak_backlog_claims", str(event.id)] == 1

    sign_in = json.dumps({"username": "kim-minji", "password": "sesame-99"}).encode()
    chunks = [sign_in[:10], sign_in[10:]]
    status, _, _ = web.ask("POST", "/api/v1/auth/token", iter(chunks), Content_Type="application/json")
    assert status == 401, "read, and understood"
    status, headers, _ = web.ask("POST", "/api/v1/auth/token", iter([b"x" * 9000] * 3), Content_Type="application/json")
    assert (status, headers["Content-Type"]) == (413, "application/problem+json")

    lines = web.lines()
    requests = [line for line in lines if line["event"] == "request"]
    first, second = [line for line in requests if "claims" in str(line["route"])]
    assert first == {
        "event": "request",
        "level": "info",
        "timestamp": first["timestamp"],
        "request_id": "phone-7",
        "claim_id": claim_id,
        "method": "POST",
        "route": "api/v1/events/<event_id:event_id>/claims",
        "status": 202,
        "duration_ms": first["duration_ms"],
    }
    assert second["claim_id"] == claim_id
    assert len(second["request_id"]) == 16, "an id of ours in place of one that is none"
    assert all("claim_id" not in line for line in requests if line not in (first, second))
    told_of = web.log.read_text()
    for secret in ("kim-minji", "sesame-99", "127.0.0.1", "a-key", bearer["Authorization"][7:40]):
        assert secret not in told_of


def test_a_server_without_postgresql_says_so(server, sale):
    event, user = sale(), make_user()
    catalogue.get(event.id)
    web = server(DATABASE_URL=f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    status, _, body = web.ask("GET", "/readyz")
    assert (status, json.loads(body)["down"]) == (200, ["postgresql"])
    for path in ("/api/v1/events", "/api/v1/coupons", f"/api/v1/events/{event.id}/state"):
        started = time.monotonic()
        status, headers, body = web.ask("GET", path, Authorization=f"Bearer {token_of(user)}")
        assert time.monotonic() - started < 1.5, "the pool waits for 0.8 s"
        assert (status, json.loads(body)["code"]) == (503, "unavailable")
        assert int(headers["Retry-After"]) >= 1


BROKEN = """
import django
django.setup()
from django.test import Client
from coupons import selectors
from tests.api_kit import forge

def broken(**_):
    raise RuntimeError("a bug")

selectors.claim_of = broken
headers = {"Authorization": "Bearer " + forge(), "X-Request-ID": "r1", "Host": "localhost"}
Client(raise_request_exception=False).get("/api/v1/events/1/claims/1-1-1", headers=headers)
"""


def test_an_error_is_logged_once_with_its_request_and_its_traceback():
    out = subprocess.run([sys.executable, "-c", BROKEN], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    (line,) = [json.loads(line) for line in out.splitlines()]
    assert (line["request_id"], line["claim_id"], line["level"]) == ("r1", "1-1-1", "error")
    assert "RuntimeError: a bug" in line["exception"]
