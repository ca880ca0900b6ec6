"""WebSockets of a real gate: what is told to whom, who is let in, and who is closed."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from django_redis import get_redis_connection
from websockets.exceptions import InvalidStatus

from coupons import holds
from events import services
from events.models import Event
from notifications.live import CHANNEL, publish
from tests.api_kit import forge
from tests.factories import make_users
from tests.sockets_kit import claim_name, issue, notification, socket
from tests.web import Server

Sale = Callable[..., Event]
ORIGIN = "https://shop.example"


@pytest.fixture(scope="module")
def gate(lasting_server: Callable[..., Server]) -> Server:
    return lasting_server("gate", LIVE_AUTH_TIMEOUT="1", LIVE_SOCKETS_PER_USER="2", LIVE_ORIGINS=ORIGIN)


def of(event: Event) -> str:
    return f"/ws/events/{event.id}"


def bearer(user: int, **claims: Any) -> tuple[str, str]:
    return "bearer", forge(user_id=user, **claims)


def test_the_state_comes_at_once_then_when_it_changes_and_else_not(sale: Sale, gate: Server) -> None:
    event = sale(quantity=5)
    with socket(gate.port, of(event)) as one, socket(gate.port, of(event), subprotocols=["listen"]) as other:
        assert (one.subprotocol, other.subprotocol) == (None, "listen")
        for client in (one, other):
            frame = client.hear_until("state", remaining=5)  # which is not yet known of an event that was just found
            assert (frame["event_id"], frame["phase"]) == (event.id, "open")
            assert abs(frame["server_time"] - time.time() * 1000) < 1000
        assert one.hears_nothing(1.5)
        paused = time.monotonic()
        services.pause(event_id=event.id)
        for client in (one, other):
            assert client.hear("state")["phase"] == "paused"
        assert time.monotonic() - paused < 2, "half a second until it is read, and one between frames"
        assert other.hears_nothing(1.2)
    with socket(gate.port, of(event)) as later:
        frame = later.hear("state")
        assert frame["phase"] == "paused", "who comes back after a break has missed nothing"
        assert abs(frame["server_time"] - time.time() * 1000) < 1000, "the clock is that of now, not of the last change"


def test_the_caller_hears_of_their_claim_and_nobody_else_does(sale: Sale, gate: Server) -> None:
    event, (user, other) = sale(quantity=5), make_users(2)
    path = of(event)
    with socket(gate.port, path) as one, socket(gate.port, path, subprotocols=bearer(other)) as two:
        assert two.subprotocol == "bearer"
        assert two.hear_until("ready")["user_id"] == other
        gate.claim_all(event, [user])
        one.identify(user)
        assert one.hear_until("ready")["user_id"] == user
        claim = one.hear_until("claim")
        assert (claim["id"], claim["status"]) == (claim_name(event.id, 1), "pending")

        publish(issue(event.id))
        assert one.hear_until("notification")["notification"]["kind"] == "coupon_issued"
        claim = one.hear_until("claim", status="issued")  # what is told may be told again before
        coupon = claim["coupon"]
        asked = gate.ask("GET", f"/api/v1/events/{event.id}/claims/{claim['id']}", Authorization=" ".join(bearer(user)))
        assert coupon["code"].encode() in asked[2], "it is what the API answers"

        # Negative control: the socket of the other is one that would hear.
        publish([(other, notification("coupon_issued", data={"event_id": 0}))])
        frames = [two.hear_until("notification")]
        assert frames[0]["notification"]["data"] == {"event_id": 0}, (
            "the first that came: the one before was not for it"
        )


def test_the_caller_hears_of_a_hold_and_of_how_it_ends(sale: Sale, gate: Server) -> None:
    event, (pays, cancels) = sale(quantity=5, hold_seconds=60), make_users(2)
    gate.claim_all(event, [pays, cancels])
    held = issue(event.id)
    ends = {pays: holds.confirm, cancels: holds.cancel}
    for user, end in ends.items():
        with socket(gate.port, of(event), subprotocols=bearer(user)) as one:
            first = one.hear_until("claim")
            assert (first["status"], "coupon" in first) == ("held", False)
            publish([told for told in held if told[0] == user])
            assert one.hear_until("notification")["notification"]["kind"] == "claim_held"
            assert one.hear_until("claim")["hold_expires_at"] == first["hold_expires_at"]
            becomes = end(event_id=event.id, claim_id=first["id"])
            kind = "coupon_issued" if end is holds.confirm else "claim_rejected"
            publish([(user, notification(kind, data={"event_id": event.id, "claim_id": first["id"]}))])
            assert one.hear_until("claim")["status"] == becomes.status == ("issued" if user == pays else "rejected")


def test_who_rejoins_hears_at_once_what_became_of_the_claim(sale: Sale, gate: Server) -> None:
    event, (user,) = sale(quantity=5), make_users(1)
    gate.claim_all(event, [user])
    issue(event.id)
    with socket(gate.port, of(event), subprotocols=bearer(user)) as client:
        assert client.hear_until("claim")["status"] == "issued"


def test_with_a_bad_token_one_is_a_guest(sale: Sale, gate: Server) -> None:
    event, (user,) = sale(), make_users(1)
    with socket(gate.port, of(event)) as client:
        for token in (
            "",
            "x.y.z",
            None,
            7,
            forge(user_id=user, key="k" * 40),
            forge(user_id=user, exp=time.time() - 1),
        ):
            client.say({"type": "auth", "token": token})
            assert client.hear_until("error")["code"] == "unauthenticated"
        services.pause(event_id=event.id)
        assert client.hear_until("state", phase="paused"), "it goes on to be told what everybody is"
        publish([(user, notification("coupon_issued", data={"event_id": 0}))])
        client.identify(user)
        client.hear("ready")  # and not what was published before


def test_a_token_that_ends_ends_what_is_the_callers_own_until_there_is_another(sale: Sale, gate: Server) -> None:
    event, (user,) = sale(), make_users(1)
    told = notification("coupon_issued", data={"event_id": 0})
    with socket(gate.port, of(event)) as client, socket(gate.port, of(event), subprotocols=bearer(user)) as witness:
        witness.hear_until("ready")
        client.identify(user, exp=int(time.time()) + 2)
        client.hear_until("ready")
        publish([(user, told)])
        client.hear_until("notification")
        assert client.hear_until("error")["code"] == "unauthenticated"
        publish([(user, told)])
        witness.hear_until("notification")
        witness.hear_until("notification")
        client.identify(user)
        client.hear("ready")  # and not the second one


def test_who_only_listens_is_closed_when_the_token_ends(sale: Sale, gate: Server) -> None:
    event, (user,) = sale(), make_users(1)
    with socket(gate.port, of(event), subprotocols=bearer(user, exp=int(time.time()) + 2)) as client:
        assert client.hear_until("error")["code"] == "unauthenticated"
        assert client.end() == 4401
    with socket(gate.port, of(event), subprotocols=["bearer", "x.y.z"]) as client:
        assert client.end() == 4401


def test_a_user_hears_notifications_at_ws_me(sale: Sale, gate: Server) -> None:
    event, (user, other) = sale(), make_users(2)
    with socket(gate.port, "/ws/me") as one, socket(gate.port, "/ws/me", subprotocols=bearer(other)) as two:
        one.identify(user)
        one.hear("ready")
        two.hear("ready")
        publish([(user, {"type": "ticket", "event_id": event.id})])
        publish([(each, notification("coupon_issued", data={"n": each})) for each in (user, other)])
        assert one.hear("notification")["notification"]["data"] == {"n": user}
        assert two.hear("notification")["notification"]["data"] == {"n": other}


def test_ws_me_is_closed_for_who_does_not_say_who_they_are(gate: Server, transactional_db: None) -> None:
    with socket(gate.port, "/ws/me") as client:
        assert client.hear("error")["code"] == "unauthenticated"
        assert client.end() == 4401
    with socket(gate.port, "/ws/me") as client:
        client.say({"type": "auth", "token": "x.y.z"})
        assert client.end() == 4401


@pytest.mark.parametrize(
    ("path", "origin", "status"),
    [
        ("/ws/events/1", "https://evil.example", 403),
        ("/ws/events/1", "null", 403),
        ("/ws/me", f"{ORIGIN}.evil.example", 403),
        (f"/ws/me?token={forge()}", None, 400),
        ("/ws/events/x", None, 404),
        ("/ws/events/1/", None, 404),
        ("/ws/", None, 404),
    ],
)
def test_what_no_client_of_ours_asks_for_is_refused_before_it_is_a_socket(
    gate: Server, path: str, origin: str | None, status: int
) -> None:
    with pytest.raises(InvalidStatus) as refused, socket(gate.port, path, origin=origin):
        pass
    assert refused.value.response.status_code == status


def test_pages_of_ours_and_of_those_we_trust_may_connect(sale: Sale, gate: Server) -> None:
    event = sale()
    for origin in (f"http://127.0.0.1:{gate.port}", ORIGIN):
        with socket(gate.port, of(event), origin=origin) as client:
            client.hear("state")


def test_an_unknown_event_is_told_as_such(gate: Server, transactional_db: None) -> None:
    with socket(gate.port, "/ws/events/999999999") as client:
        assert client.hear("error")["code"] == "not_found"
        assert client.end() == 4404


def test_a_user_has_no_more_sockets_than_are_allowed(sale: Sale, gate: Server) -> None:
    event, (user, other) = sale(), make_users(2)
    with socket(gate.port, of(event), subprotocols=bearer(user)) as one, socket(gate.port, "/ws/me") as two:
        one.hear_until("ready")
        two.identify(user)
        two.hear("ready")
        with socket(gate.port, of(event), subprotocols=bearer(user)) as third:
            assert third.hear_until("error")["code"] == "rate_limited"
            assert third.end() == 4429
        with socket(gate.port, of(event), subprotocols=bearer(other)) as another:
            another.hear_until("ready")
        two.connection.close()
        with socket(gate.port, of(event)) as third:
            third.identify(user)
            third.hear_until("ready")


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (["no json"], 1007),
        (["[]"], 1007),
        (['{"type": 1}'], 1007),
        ([f'{{"type": "auth", "token": "{"x" * 11_000}"}}'], 1009),
        (['{"type": "hello"}'] * 31, 1008),
    ],
)
def test_a_client_that_says_too_much_or_nothing_sensible_is_closed(
    sale: Sale, gate: Server, messages: list[str], code: int
) -> None:
    with socket(gate.port, of(sale())) as client:
        client.hear("state")
        for message in messages[:-1]:
            client.say(message)
            assert client.hear("error")["code"] == "invalid"
        client.say(messages[-1])
        assert client.end() == code


def test_what_nobody_could_have_published_costs_nothing_that_comes_after(gate: Server, transactional_db: None) -> None:
    (user,) = make_users(1)
    with socket(gate.port, "/ws/me", subprotocols=bearer(user)) as client:
        client.hear("ready")
        for published in (b"no json", b"[[1]]", b'{"a": 1}', b"[[%d, {}]]" % user, b"[[%d, 7]]" % user):
            get_redis_connection("default").publish(CHANNEL, published)
        publish([(user, notification("coupon_issued", data={}))])
        client.hear("notification")
