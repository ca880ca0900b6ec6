"""What can be checked of the image and of docker-compose.yml without a Docker engine."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings

from config.serve import OTHER_FILES, granian
from notifications.channels import CHANNELS

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]


def test_every_lasting_service_has_a_health_check() -> None:
    lasting = {name for name in SERVICES if name != "migrate"}
    assert lasting == {"postgres", "redis", "nginx", "gate", "web", "worker", "notifier", "beat"}
    assert {name for name in lasting if "healthcheck" in SERVICES[name]} == lasting


def test_redis_persists_and_never_evicts() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--appendfsync everysec" in command
    assert "--maxmemory-policy noeviction" in command


@pytest.mark.parametrize("name", ["SECRET_KEY", "POSTGRES_PASSWORD"])
def test_secrets_come_from_outside_and_are_asked_for(name: str) -> None:
    uses = re.findall(rf"\$\{{{name}(:\?[^}}]*)?\}}", COMPOSE)
    assert uses
    assert any(use.startswith(":?") for use in uses), "compose must stop where it is missing"
    assert not re.search(rf"^\s*{name}:\s*[^$\s]", COMPOSE, re.MULTILINE)


def test_the_image_copies_only_what_exists() -> None:
    copied = [
        line.split()[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY") and "--from" not in line
    ]
    names = [name for sources in copied for name in sources]
    assert {"manage.py", "config", "coupons", "events", "notifications", "templates"} <= set(names)
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_the_image_runs_as_an_unprivileged_user() -> None:
    users = re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)
    assert users == ["seonchak"]


@pytest.mark.parametrize("service", ["worker", "notifier", "beat", "migrate"])
def test_the_commands_of_the_services_exist(service: str) -> None:
    command = SERVICES[service]["command"]
    program = [sys.executable, *command[1:]] if command[0] == "python" else [sys.executable, "-m", *command]
    shown = subprocess.run([*program, "--help"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert shown.returncode == 0, shown.stderr


@pytest.mark.parametrize("lane", ["gate", "web"])
def test_the_commands_of_the_servers_are_understood_by_granian(lane: str) -> None:
    image = json.loads(DOCKERFILE[DOCKERFILE.index("CMD [") + 4 :])
    command = SERVICES[lane].get("command", image)
    assert command == ["python", "-m", "config.serve", lane, "--host", "0.0.0.0"]  # noqa: S104
    options = granian(lane, host="127.0.0.1", port=8000, connections=1)
    # `--version` is looked at last: what it does not know, or would not take, ends it before.
    run = subprocess.run(
        [sys.executable, "-m", *options, "--version"], capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 0, run.stderr


def test_the_notifier_takes_the_queue_of_notifications_and_has_a_thread_for_each_channel() -> None:
    options = dict(part.split("=") for part in SERVICES["notifier"]["command"] if "=" in part)
    queues = {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()}
    assert (queues, options["--pool"]) == ({options["--queues"]}, "threads")
    assert int(options["--concurrency"]) >= len(CHANNELS) + 2, "fanning out and reminding"


PROCESSES = ("gate", "web", "worker", "notifier")


@pytest.mark.parametrize("name", PROCESSES)
def test_what_the_processes_of_a_container_count_is_put_together_and_nobody_else_s(name: str) -> None:
    (folder,) = re.findall(r"PROMETHEUS_MULTIPROC_DIR=(\S+)", DOCKERFILE)
    assert folder in SERVICES[name]["tmpfs"]
    assert not any(folder in volume for volume in SERVICES[name].get("volumes", ()))


def test_prometheus_asks_every_process_where_it_tells_its_metrics() -> None:
    jobs = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())["scrape_configs"]
    asked = {(name, sd["port"]) for job in jobs for sd in job["dns_sd_configs"] for name in sd["names"]}
    told = {name: SERVICES[name]["environment"].get("METRICS_LISTEN", "0.0.0.0:8000") for name in PROCESSES}
    assert asked == {(name, int(listens.rpartition(":")[2])) for name, listens in told.items()}


def test_only_nginx_can_be_reached_and_the_application_believes_it() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["nginx"]
    assert SERVICES["gate"]["environment"]["TRUSTED_PROXIES"] == "${TRUSTED_PROXIES:-1}"


@pytest.mark.parametrize("lane", ["gate", "web"])
def test_a_server_has_the_time_to_answer_and_the_files_for_a_crowd(lane: str) -> None:
    assert int(SERVICES[lane]["stop_grace_period"].removesuffix("s")) > settings.SERVER_STOP_TIMEOUT
    assert SERVICES[lane]["ulimits"]["nofile"] >= settings.SERVER_CONNECTIONS + OTHER_FILES
    assert SERVICES[lane]["sysctls"]["net.core.somaxconn"] >= settings.SERVER_BACKLOG


def test_what_compose_passes_on_are_settings_and_it_has_no_defaults_of_its_own_for_them() -> None:
    source = (ROOT / "config" / "settings.py").read_text()
    passed = SERVICES["gate"]["environment"]
    tuning = {name for name in passed if name.startswith(("GATE_", "WEB_", "SERVER_"))}
    assert {name for name in tuning if f'"{name}"' not in source} == set()
    assert {passed[name] for name in tuning} == {f"${{{name}:-}}" for name in tuning}
    assert tuning >= set(re.findall(r'"((?:WEB|SERVER)_[A-Z_]+)"', source))
