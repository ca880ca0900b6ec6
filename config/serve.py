"""`python -m config.serve gate|web`: become one of the two server processes, tuned as the settings say.

    gate    the endpoints of a rush, and Django for everything else, over ASGI
    web     Django over WSGI: admin, pages, REST API

One place for what `make run`, the image and docker-compose.yml start. Granian does the serving; its other options can
be set by its own variables, `GRANIAN_…`.
"""

import argparse
import os
import resource
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings

# Open files of a process that are no customer's connection: those to the servers, threads, logs, libraries.
OTHER_FILES = 256
# Granian's allocator keeps what is freed for 10 s; with 10,000 connections that was 30 MiB which Python then took
# elsewhere. Kept for 0 s it cost a tenth more of the processor, for this long nothing that could be measured.
ALLOCATOR = "dirty_decay_ms:200"


def main() -> None:
    """Parse the command line and become the server; it does not return."""
    parser = argparse.ArgumentParser(prog="python -m config.serve", description="Become a server process.")
    parser.add_argument("what", choices=["gate", "web"])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    connections = connections_within(allow_files())
    if connections < settings.SERVER_CONNECTIONS:
        sys.stderr.write(
            f"seonchak: the limit of open files leaves a process {connections:,} connections, not the"
            f" {settings.SERVER_CONNECTIONS:,} of SERVER_CONNECTIONS: more have to wait. Raise the limit"
            f" (`ulimit -Hn`, LimitNOFILE= of systemd, `ulimits` of compose) to"
            f" {settings.SERVER_CONNECTIONS + OTHER_FILES:,}, or lower the setting.\n"
        )
        sys.stderr.flush()
    command = granian(arguments.what, host=arguments.host, port=arguments.port, connections=connections)
    os.environ.setdefault("_RJEM_MALLOC_CONF", ALLOCATOR)
    let_threads_finish()
    # Not a child but this process, so that signals and the exit status are its own.
    os.execv(sys.executable, [sys.executable, "-m", *command])  # noqa: S606


def granian(what: str, *, host: str, port: int, connections: int) -> list[str]:
    """The command of `gate` or `web`, as arguments of `python -m`."""
    lanes = {
        # One thread of Rust reads and writes for one that runs Python: a second would only take turns with it.
        "gate": [
            *("config.asgi:application", "--interface", "asgi", "--loop", "uvloop", "--runtime-threads", "1"),
            *("--workers", str(settings.GATE_PROCESSES)),
        ],
        "web": [
            *("config.wsgi:application", "--interface", "wsgi", "--blocking-threads", str(settings.WEB_THREADS)),
            *("--workers", str(settings.WEB_PROCESSES)),
        ],
    }
    return [
        *("granian", *lanes[what], "--host", host, "--port", str(port), "--http", "1", "--no-log"),
        *("--backlog", str(settings.SERVER_BACKLOG)),
        # What Granian calls so bounds connections and not requests, those that are idle included (measured, 2.8).
        *("--backpressure", str(connections)),
        # From the end of an answer to the end of the next request's headers.
        *("--http1-header-read-timeout", str(round(settings.SERVER_KEEP_ALIVE * 1000))),
        *("--workers-kill-timeout", str(settings.SERVER_STOP_TIMEOUT)),
        # One that was killed takes nobody along; one that cannot start ends them all.
        "--respawn-failed-workers",
    ]


def let_threads_finish(process: int = 0) -> None:
    """Have the threads of the process (0: this one), and of what it starts, not cut in on each other, where Linux can.

    The thread that reads requests wakes with each of them, and by default takes the core from the one that answers.
    Whoever started it in another way of scheduling, with real-time priority perhaps, has chosen, and it stays.
    """
    if hasattr(os, "SCHED_BATCH") and os.sched_getscheduler(process) == os.SCHED_OTHER:
        os.sched_setscheduler(process, os.SCHED_BATCH, os.sched_param(0))


def allow_files() -> int:
    """Raise this process's limit of open files to what its connections need, as far as it may; what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.SERVER_CONNECTIONS + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def connections_within(files: int) -> int:
    """How many connections a process with a limit of so many open files can hold, as far as they are asked for."""
    return max(1, min(settings.SERVER_CONNECTIONS, files - OTHER_FILES))


if __name__ == "__main__":
    main()
