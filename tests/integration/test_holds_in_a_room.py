"""Holds of a sale with a waiting room, and what is told of one without."""

import json
from collections.abc import Callable

import pytest

from coupons import holds, modes, services
from coupons.errors import AlreadyClaimed
from coupons.issuing import issue_claims
from coupons.stock.store import StockStore
from events import state
from events.catalogue import catalogue
from events.errors import SoldOut
from events.models import Event, Ticket
from events.waiting_room import checkpoint, service
from events.waiting_room.store import bulk_room_store
from tests.factories import make_users

Sale = Callable[..., Event]


def told(event: Event) -> tuple[str, int]:
    """The phase and the units left, as everybody is told."""
    catalogue.refresh()
    state._documents.clear()
    body = json.loads(state.state(event.id).body)
    return body["phase"], body["remaining"]


def claim(event: Event, user: int, store: StockStore) -> str:
    claimed = services.claim(event_id=event.id, user_id=user)
    issue_claims(event.id, store)
    return str(claimed.claim.id)


def test_without_a_room_a_sale_is_sold_out_and_opens_again_when_a_unit_comes_back(
    sale: Sale, store: StockStore
) -> None:
    event, (one, two) = sale(hold_seconds=60, quantity=1), make_users(2)
    name = claim(event, one, store)
    assert told(event) == ("sold_out", 0)
    with pytest.raises(SoldOut):
        services.claim(event_id=event.id, user_id=two)
    holds.cancel(event_id=event.id, claim_id=name)
    assert told(event) == ("open", 1)
    holds.confirm(event_id=event.id, claim_id=claim(event, two, store))
    assert told(event) == ("sold_out", 0)


def test_a_unit_that_comes_back_goes_to_the_next_in_line_and_the_last_confirmation_ends_the_queue(
    sale: Sale, store: StockStore
) -> None:
    event, (one, two, three) = sale(hold_seconds=60, quantity=1, waiting_room=True, admission_rate=1000), make_users(3)
    for user in (one, two, three):
        service.visit(event.id, user, 1, "join")
    name = claim(event, one, store)
    assert told(event) == ("open", 0), "to those who wait it is not sold out"
    waiting = service.visit(event.id, two, 1, "ask")
    assert (waiting.status, waiting.ahead, waiting.eta_seconds, waiting.odds) == ("waiting", 0, None, None)
    holds.cancel(event_id=event.id, claim_id=name)
    assert service.visit(event.id, three, 1, "ask").status == "waiting"
    assert service.visit(event.id, two, 1, "ask").status == "admitted"
    name = claim(event, two, store)
    holds.confirm(event_id=event.id, claim_id=name)
    assert told(event) == ("sold_out", 0)
    with pytest.raises(SoldOut):
        service.visit(event.id, three, 1, "ask")


def test_who_has_a_hold_is_told_of_it_and_not_that_it_is_issued(sale: Sale, store: StockStore) -> None:
    event, (one,) = sale(hold_seconds=60, quantity=2, waiting_room=True), make_users(1)
    service.visit(event.id, one, 1, "join")
    name = claim(event, one, store)
    with pytest.raises(AlreadyClaimed) as from_redis:
        service.visit(event.id, one, 1, "ask")
    assert modes.fall_back(event.id, epoch=1)
    catalogue.refresh()
    with pytest.raises(AlreadyClaimed) as from_database:
        service.visit(event.id, one, 1, "ask")
    assert [str(each.value.claim.id) for each in (from_redis, from_database)] == [name, name]
    assert [each.value.claim.status for each in (from_redis, from_database)] == ["pending", "held"]


def test_in_the_database_too_people_wait_for_what_may_come_back(sale: Sale, store: StockStore) -> None:
    event, (one, two) = sale(hold_seconds=60, quantity=1, waiting_room=True, admission_rate=1000), make_users(2)
    for user in (one, two):
        service.visit(event.id, user, 1, "join")
    checkpoint.checkpoint(event.id, bulk_room_store())
    assert Ticket.objects.count() == 2
    assert modes.fall_back(event.id, epoch=1)
    catalogue.refresh()
    name = claim(event, one, store)
    catalogue.refresh()
    waiting = service.visit(event.id, two, 1, "ask")
    assert (waiting.status, waiting.eta_seconds, waiting.odds) == ("waiting", None, None)
    holds.cancel(event_id=event.id, claim_id=name)
    assert service.visit(event.id, two, 1, "ask").status == "admitted"
    holds.confirm(event_id=event.id, claim_id=claim(event, two, store))
    with pytest.raises(SoldOut):
        service.visit(event.id, one, 1, "ask")
