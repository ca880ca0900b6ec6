"""Whether the process lives, and whether it can serve: for the load balancer and for `make run`."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django_redis import get_redis_connection

from config.postgresql.connection import patience
from coupons.stock.store import hot_store
from events.answers import JSON, dumps
from events.redis.breaker import breakers

PATIENCE = 1.0  # seconds: a server that hangs is a server that is down


def _postgresql() -> None:
    try:
        with patience(settings.DATABASE_REQUEST_TIMEOUT), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()


def _stock() -> None:
    hot_store().client.ping()


def _redis(alias: str) -> Callable[[], None]:
    return lambda: get_redis_connection(alias).ping() and None


CHECKS: dict[str, Callable[[], None]] = {
    "postgresql": _postgresql,
    "stock": _stock,
    "cache": _redis("default"),
}
NEEDED = {"postgresql", "stock"}  # one of the two, to answer claims


class Probe:
    """Looks at what the process needs, each in a thread of its own, because a hanging server answers nobody.

    A look that hangs is not started anew: it is down as long as it hangs.
    """

    def __init__(self, checks: dict[str, Callable[[], None]]) -> None:
        self._checks = checks
        self._threads = ThreadPoolExecutor(max_workers=len(checks), thread_name_prefix="probe")
        self._under_way: dict[str, Future[None]] = {}

    def down(self) -> list[str]:
        """The names of what did not answer within `PATIENCE`."""
        looks = {}
        for name, check in self._checks.items():
            look = self._under_way.get(name)
            if look is None or look.done():
                look = self._under_way[name] = self._threads.submit(check)
            looks[name] = look
        wait(looks.values(), timeout=PATIENCE)
        return [name for name, look in looks.items() if not look.done() or look.exception() is not None]


probe = Probe(CHECKS)


@require_safe
@never_cache
def livez(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """200 while the process answers at all. It looks at nothing else: a restart mends no other server."""
    return HttpResponse(dumps({"status": "ok"}), content_type=JSON)


@require_safe
@never_cache
def readyz(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """200 while anything can be sold, with the names of what is `down` and the state of each breaker.

    With one of PostgreSQL and the stock claims are answered: 200, "degraded". A balancer that took every web process
    away for it would make an outage of a fault. With neither nothing can be done here: 503, "unavailable".
    """
    down = probe.down()
    status = "unavailable" if NEEDED.issubset(down) else "degraded" if down else "ok"
    states = {name: breaker.state() for name, breaker in sorted(breakers().items())}
    body = {"status": status, "down": down, "breakers": states}
    return HttpResponse(dumps(body), status=503 if status == "unavailable" else 200, content_type=JSON)
