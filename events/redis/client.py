"""The client of the stock: one Redis, a Redis watched by Sentinels, or a Redis Cluster, as its URL says.

Whichever it is, a command is sent once. redis-py's own retry was seen to run a script eleven times; a claim that got no
answer is asked again by its owner, and the script knows it again.
"""

# mypy: disable-error-code="no-untyped-call"
# (redis-py's Sentinel has no types)

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import structlog
from redis import Redis, RedisCluster
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, parse_url
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from events.redis.cluster import Cluster

log = structlog.get_logger(__name__)

SCHEMES = ("redis", "rediss", "unix", "valkey", "redis+sentinel", "redis+cluster")
LOOK_EVERY = 1.0
MAX_CONNECTIONS = 256  # a process and server
SENTINEL_PORT = 26379
PORT = 6379

# What a URL may ask for beside the server. Timeouts and retries are not among it: what is promised hangs on them.
OPTIONS = frozenset({"db", "username", "password", "client_name", "max_connections"})

Client = Redis | RedisCluster
Nodes = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Address:
    """Where the stock is: on one server; behind `nodes`, the Sentinels that watch `primary`; or on the cluster of
    which `nodes` are a part. `options` are those of each connection."""

    kind: Literal["server", "sentinel", "cluster"]
    nodes: Nodes = ()
    primary: str = ""
    options: dict[str, Any] = field(default_factory=dict, repr=False)  # a password may be among them
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)


def parse(url: str) -> Address:
    """Read a URL. Raises `ValueError` with a reason that holds nothing of the URL, for it may hold a password.

    `redis://`, `rediss://`, `unix://` and `valkey://` as redis-py has them;
    `redis+sentinel://[user:password@]host[:26379],host2/primary[/db][?sentinel_password=…]`;
    `redis+cluster://[user:password@]host[:6379],host2`.
    """
    scheme, found, rest = url.partition("://")
    if not found or scheme not in SCHEMES:
        raise ValueError(f"starts with none of {', '.join(f'{one}://' for one in SCHEMES)}")
    if scheme == "redis+sentinel":
        return _sentinel(rest)
    if scheme == "redis+cluster":
        return _cluster(rest)
    return _server(scheme.replace("valkey", "redis"), rest)


def connect(url: str, *, timeout: float) -> Client:
    """A client of the stock, shared by threads. It gives up after `timeout` seconds and sends nothing twice.

    It connects with the first command, not before. Raises `ValueError` where the URL cannot be read.
    """
    address = parse(url)
    options = {"max_connections": MAX_CONNECTIONS, **patience(timeout), **address.options}
    match address.kind:
        case "server":
            return Redis(connection_pool=ConnectionPool(**options, retry=_once()))
        case "sentinel":
            sentinels = _Sentinels(
                address.nodes,
                sentinel_kwargs={**patience(timeout), **address.sentinel_options, "retry": _once()},
                **options,
                retry=_once(),
            )
            client: Redis = sentinels.master_for(address.primary, connection_pool_class=_WatchingPool)
            return client
        case "cluster":
            return Cluster(address.nodes, timeout=timeout, retry=_once(), **options)


class _Sentinels(Sentinel):
    """The Sentinels, asked one after another; who answered is asked first the next time."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Where the primary is. Raises `MasterNotFoundError`, a `ConnectionError`, where none of them knows."""
        # redis-py moves the one that answered to the front in two steps, by which two threads lose another for good.
        # So each thread moves its own copy, and the list is changed in one step.
        mine = Sentinel([])
        mine.sentinels = list(self.sentinels)
        address: tuple[str, int] = mine.discover_master(service_name)
        self.sentinels = mine.sentinels
        return address


class _WatchingPool(SentinelConnectionPool):
    """Connections to the primary, which is looked for again every `LOOK_EVERY` seconds of use.

    redis-py looks when a connection breaks. In a planned failover none does: the old primary went on taking claims for
    eleven seconds, and then forgot them all.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._looking = threading.Lock()
        self._look_at = 0.0

    def get_connection(self, *args: Any, **options: Any) -> Any:
        """A connection to the primary, as far as this process knows. The look is the business of another thread."""
        if time.monotonic() >= self._look_at and self._looking.acquire(blocking=False):
            self._look_at = time.monotonic() + LOOK_EVERY
            threading.Thread(target=self._look, name="sentinels", daemon=True).start()
        return super().get_connection(*args, **options)

    def _look(self) -> None:
        try:
            self.get_master_address()  # where it has changed, idle connections end, and others when they are given back
        except RedisError as error:
            log.warning("primary_unknown", error=type(error).__name__)
        finally:
            self._looking.release()


def _once() -> Retry:
    return Retry(NoBackoff(), 0)


def patience(timeout: float | None) -> dict[str, Any]:
    """What each connection is made with that gives up after `timeout` seconds, None for never."""
    return {
        "decode_responses": True,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # They would have the timeouts stretched to 10 s whenever a server says that it is being moved.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def _server(scheme: str, rest: str) -> Address:
    url = f"{scheme}://{rest}"
    try:
        parts = urlsplit(url)
        options = parse_url(url)
    except ValueError:
        raise ValueError("cannot be read: redis://user:password@host:6379/0") from None
    asked = _asked(parts, *(name for name, _ in parse_qsl(parts.query) if name in OPTIONS or name.startswith("ssl_")))
    if scheme == "unix":
        if not parts.path:
            raise ValueError("names no socket: unix:///path?db=0")
    elif not parts.hostname:
        raise ValueError("names no host: redis://host:6379/0")
    elif "db" not in asked:
        options["db"] = _database(parts.path)  # redis-py takes what is no number for 0
    return Address("server", options=options)


def _sentinel(rest: str) -> Address:
    parts, nodes, options = _several(rest, SENTINEL_PORT)
    primary, _, database = parts.path.strip("/").partition("/")
    if not primary:
        raise ValueError("names no primary: redis+sentinel://host:26379,host2:26379/primary/0")
    asked = _asked(parts, "sentinel_username", "sentinel_password")
    options["db"] = _database(database)
    sentinel_options = {name.removeprefix("sentinel_"): value for name, value in asked.items()}
    return Address("sentinel", nodes, unquote(primary), options, sentinel_options)


def _cluster(rest: str) -> Address:
    parts, nodes, options = _several(rest, PORT)
    if _database(parts.path):
        raise ValueError("names a database: a cluster has number 0 only")
    _asked(parts)
    return Address("cluster", nodes, options=options)


def _several(rest: str, port: int) -> tuple[SplitResult, Nodes, dict[str, Any]]:
    """The parts of a URL, its nodes, and the user and password that it names."""
    # Several hosts are no URL: some Pythons refuse one in brackets that is not alone.
    hosts_end = next((at for at, sign in enumerate(rest) if sign in "/?#"), len(rest))
    parts = urlsplit(f"redis://hosts{rest[hosts_end:]}")
    credentials, _, hosts = rest[:hosts_end].rpartition("@")
    user, _, password = credentials.partition(":")
    options = {"username": unquote(user), "password": unquote(password)}
    nodes = tuple(_node(one, port) for one in hosts.split(","))
    return parts, nodes, {name: value for name, value in options.items() if value}


def _node(text: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, given = parts.hostname, parts.port
    except ValueError:
        host, given = None, None
    if not host:
        raise ValueError("names a host that cannot be read: host:port, separated by commas")
    return host, given or port


def _database(path: str) -> int:
    number = path.strip("/") or "0"
    if not number.isdecimal():
        raise ValueError("names a database that is no number")
    return int(number)


def _asked(parts: SplitResult, *known: str) -> dict[str, str]:
    """The options of a URL. Raises `ValueError` for one that is not among `known`."""
    asked = dict(parse_qsl(parts.query))
    unknown = sorted(asked.keys() - set(known))
    if unknown:
        raise ValueError(f"has an option that it may not have: {', '.join(unknown)}")
    return asked
