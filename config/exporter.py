"""`/metrics` of a worker and of a notifier: they serve no HTTP, and so have a port for it, where `METRICS_LISTEN` says.

It tells what the processes of that one worker counted, and asks for `METRICS_TOKEN` as the one of gate and web does.
What waits at the moment is theirs to tell.
"""

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import structlog
from django.conf import settings
from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from config import metrics
from config.tokens import CHALLENGE

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = structlog.get_logger(__name__)


class Handler(WSGIRequestHandler):
    """A request of Prometheus': not worth a line, and not waited for longer than that."""

    timeout = 5  # seconds

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """The counts, whatever the path."""
    if not metrics.may_read(environ.get("HTTP_AUTHORIZATION", "")):
        start_response("401 Unauthorized", [("WWW-Authenticate", CHALLENGE)])
        return []
    answer: Iterable[bytes] = make_wsgi_app(metrics.counted())(environ, start_response)
    return answer


def start(**_: Any) -> None:
    """Celery's signal `worker_ready`, in its main process: serve, if that is asked for."""
    if settings.METRICS_LISTEN is not None:
        threading.Thread(target=_serve, args=settings.METRICS_LISTEN, name="metrics", daemon=True).start()


def _serve(host: str, port: int) -> None:
    """In a thread, for the server looks up its own name first. Where the port is taken, the work goes on without."""
    try:
        server = make_server(host, port, application, ThreadingWSGIServer, Handler)
    except OSError as error:
        log.error("metrics_not_served", port=port, error=type(error).__name__)
        return
    server.serve_forever()
