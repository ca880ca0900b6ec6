"""URLs of the stock: what they say is what is connected to, and a bad one says why without a password."""

import pytest
from redis import Redis
from redis.cluster import RedisCluster

from events.redis import client


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://host", {"host": "host", "db": 0}),
        ("valkey://host:7/3", {"host": "host", "port": 7, "db": 3}),
        ("redis://us%40er:p%2Fw@host/1", {"host": "host", "username": "us@er", "password": "p/w", "db": 1}),
        ("redis://host?db=2&client_name=shop", {"host": "host", "db": 2, "client_name": "shop"}),
    ],
)
def test_one_server_is_read_as_redis_py_reads_it(url: str, options: dict[str, object]) -> None:
    address = client.parse(url)
    assert (address.kind, address.options) == ("server", options)


def test_a_socket_and_a_server_behind_tls_are_reached_their_own_way() -> None:
    socket, tls = (
        client.parse("unix:///run/redis.sock?db=1").options,
        client.parse("rediss://host/0?ssl_cert_reqs=none").options,
    )
    assert (socket["path"], socket["db"], socket["connection_class"].__name__) == (
        "/run/redis.sock",
        1,
        "UnixDomainSocketConnection",
    )
    assert (tls["ssl_cert_reqs"], tls["connection_class"].__name__) == ("none", "SSLConnection")


def test_sentinels_are_read_with_the_primary_the_database_and_both_passwords() -> None:
    address = client.parse("redis+sentinel://user:p%2Cw@one:1,two,[::1]:3/stock/2?sentinel_password=other")
    assert (address.kind, address.primary) == ("sentinel", "stock")
    assert address.nodes == (("one", 1), ("two", 26379), ("::1", 3))
    assert address.options == {"username": "user", "password": "p,w", "db": 2}
    assert address.sentinel_options == {"password": "other"}


def test_a_cluster_is_read_with_its_nodes_and_the_password() -> None:
    address = client.parse("redis+cluster://:pw@one:7000,two:7001/0")
    assert (address.kind, address.nodes) == ("cluster", (("one", 7000), ("two", 7001)))
    assert address.options == {"password": "pw"}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "starts with none of"),
        ("host:6379", "starts with none of"),
        ("http://user:secret@host", "starts with none of"),
        ("redis://", "names no host"),
        ("redis://user:secret@/0", "names no host"),
        ("redis://user:sec/ret@host/0", "cannot be read"),
        ("redis://user:secret@host:port/0", "cannot be read"),
        ("redis://user:secret@host:99999/0", "cannot be read"),
        ("redis://user:secret@host/stock", "no number"),
        ("redis://user:secret@host?db=stock", "cannot be read"),
        ("unix://", "names no socket"),
        ("redis+sentinel://user:secret@one:26379", "names no primary"),
        ("redis+sentinel://user:secret@one:26379/stock/two", "no number"),
        ("redis+sentinel://user:secret@one:26379,/stock", "names a host that cannot be read"),
        ("redis+sentinel://user:secret@one:x/stock", "names a host that cannot be read"),
        ("redis+cluster://user:secret@", "names a host that cannot be read"),
        ("redis+cluster://user:secret@one/1", "number 0 only"),
    ],
)
def test_what_cannot_be_read_says_why_and_tells_no_password(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        client.parse(url)
    assert "sec" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize("url", ["redis://h/0", "redis+sentinel://h/stock", "redis+cluster://h"])
@pytest.mark.parametrize("option", ["socket_timeout=60", "retry_on_timeout=true", "retry_on_error=x", "what=ever"])
def test_no_url_changes_patience_or_retries(url: str, option: str) -> None:
    with pytest.raises(ValueError, match=f"may not have: {option.partition('=')[0]}"):
        client.parse(f"{url}?{option}")


def test_an_address_shows_no_password() -> None:
    for url in ("redis://:secret@h/0", "redis+sentinel://:secret@h/stock?sentinel_password=secret"):
        assert "secret" not in repr(client.parse(url))


def test_a_client_is_made_without_a_server() -> None:
    """Nobody is connected to: a process starts while Redis is away."""
    assert type(client.connect("redis://localhost:1/0", timeout=0.1)) is Redis
    assert type(client.connect("redis+sentinel://localhost:1/stock", timeout=0.1)) is Redis
    assert isinstance(client.connect("redis+cluster://localhost:1", timeout=0.1), RedisCluster)
