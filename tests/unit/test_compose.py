"""What can be checked of the image and of docker-compose.yml without a Docker engine."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]


def test_every_lasting_service_has_a_health_check() -> None:
    lasting = {name for name in SERVICES if name != "migrate"}
    assert lasting == {"postgres", "redis", "web", "worker", "beat"}
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


@pytest.mark.parametrize("service", ["worker", "beat", "migrate"])
def test_the_commands_of_the_services_exist(service: str) -> None:
    command = SERVICES[service]["command"]
    program = [sys.executable, *command[1:]] if command[0] == "python" else [sys.executable, "-m", *command]
    shown = subprocess.run([*program, "--help"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert shown.returncode == 0, shown.stderr


def test_the_command_of_the_image_is_understood_by_granian() -> None:
    text = DOCKERFILE[DOCKERFILE.index("CMD [") + 4 :].replace("\\\n", "")
    command = [part.strip(",") for part in shlex.split(text.strip().strip("[]"))]
    options = {part for part in command if part.startswith("--")}
    shown = subprocess.run(
        [sys.executable, "-m", "granian", "--help"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    unknown = {option for option in options if option not in shown and option.replace("--no-", "--") not in shown}
    assert command[:2] == ["granian", "config.wsgi:application"]
    assert unknown == set()
