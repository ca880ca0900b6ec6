"""Every way answers the same on both lanes, as far as a customer can tell."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from coupons.strategies import STRATEGIES
from events.models import Event
from tests.api_kit import token_of
from tests.factories import make_user
from tests.strategies.kit import assert_exactly, settle
from tests.web import Server


@pytest.mark.parametrize("lane", ["web", "gate"])
def test_a_claim_is_made_repeated_followed_and_refused(
    sale: Callable[..., Event], server: Callable[..., Server], lane: str
) -> None:
    tokens = [token_of(make_user()) for _ in range(2)]
    events = [sale(strategy=name, quantity=1) for name in STRATEGIES]
    process = server(lane)

    def ask(method: str, event: Event, what: str, token: str, **headers: str) -> tuple[int, Any]:
        path = f"/api/v1/events/{event.pk}/claims{what}"
        headers = {"Authorization": f"Bearer {token}", **headers}
        status, _, body = process.ask(method, path, b"" if method == "POST" else None, **headers)
        return status, json.loads(body)

    for sold, event in enumerate(events, 1):
        at_once = STRATEGIES[event.strategy].at_once
        status, claimed = ask("POST", event, "", tokens[0], Idempotency_Key="key")
        assert (status, claimed["status"]) == ((201, "issued") if at_once else (202, "pending")), event.strategy
        status, again = ask("POST", event, "", tokens[0], Idempotency_Key="key")
        assert (status, again["id"]) == (201 if at_once else 202, claimed["id"])
        settle(event)
        status, issued = ask("GET", event, f"/{claimed['id']}", tokens[0])
        assert (status, issued["status"]) == (200, "issued")
        status, refused = ask("POST", event, "", tokens[0])
        assert (status, refused["code"], refused["claim"]["id"]) == (409, "already_claimed", claimed["id"])
        assert ask("GET", event, f"/{claimed['id']}", tokens[1])[0] == 404
        if STRATEGIES[event.strategy].decides_at_once:
            status, refused = ask("POST", event, "", tokens[1])
            assert (status, refused["code"]) == (409, "sold_out")
        assert_exactly(event, 1, told=sold)
