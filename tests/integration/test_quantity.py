"""Claims of several units: all of them or none, from the script to the coupons, by every way there is."""

from collections.abc import Callable, Sequence
from unittest.mock import patch

import pytest

from coupons import issuing, modes, selectors, services
from coupons.errors import AlreadyClaimed
from coupons.issuing import issue_claims
from coupons.models import Coupon, FailedClaim
from coupons.stock.codes import ReserveCode
from coupons.stock.records import LogEntry
from coupons.stock.store import StockStore
from coupons.strategies import STRATEGIES, Strategy
from events import services as sales
from events.errors import Invalid, SoldOut
from events.models import HOLDER_WAYS, Event
from notifications.models import Notification
from tests.api_kit import Caller, problem_of
from tests.factories import make_user, make_users
from tests.sales import NOBODY, Crash, assert_sum, load_too_high, make_due
from tests.stock_kit import EVENT, put_stock

Sale = Callable[..., Event]
Reason = FailedClaim.Reason


def reserve(store: StockStore, event: Event, user: int, quantity: int, request: str = "") -> list[LogEntry]:
    (one,) = store.reserve(event.id, epoch=1, claims=[(user, request, quantity)]).reservations
    assert (one.code, one.quantity) == (ReserveCode.ACCEPTED, quantity)
    return [entry for entry in store.read_log(event.id, count=10_000) if entry.user_id == user]


def numbers(event: Event) -> list[tuple[int, int]]:
    """Whose the coupons are, in the order of their numbers."""
    return list(Coupon.objects.filter(event=event).order_by("sequence").values_list("sequence", "user_id"))


# The script -----------------------------------------------------------------------------------------------------------


def test_a_claim_of_three_takes_three_units_three_numbers_and_three_places_in_the_log(store: StockStore) -> None:
    put_stock(store, 10, per_user_limit=4)
    (one,) = store.reserve(EVENT, epoch=1, claims=[(42, "key", 3)]).reservations
    (again,) = store.reserve(EVENT, epoch=1, claims=[(42, "key", 1)]).reservations
    assert (one.code, one.sequence, one.quantity) == (ReserveCode.ACCEPTED, 1, 3)
    assert again == one._replace(code=ReserveCode.REPEATED), "the same request has its first answer"
    snapshot = store.snapshot(EVENT)
    assert (snapshot.stock, snapshot.sequence, snapshot.backlog) == (7, 3, 3)
    log = store.read_log(EVENT, count=9)
    assert [(one.sequence, one.ordinal, one.place, one.units, one.first, one.last) for one in log] == [
        (1, 1, 1, 3, 1, 3),
        (2, 2, 2, 3, 1, 3),
        (3, 3, 3, 3, 1, 3),
    ]
    assert store.held_by(EVENT, 42)[0] == [entry.held for entry in log], "as text and back"


def test_what_goes_over_the_limit_or_the_stock_takes_nothing(store: StockStore) -> None:
    put_stock(store, 4, per_user_limit=3)

    def claim(user: int, quantity: int) -> ReserveCode:
        return store.reserve(EVENT, epoch=1, claims=[(user, "", quantity)]).reservations[0].code

    assert claim(1, 4) is ReserveCode.OVER_LIMIT
    assert claim(1, 2) is ReserveCode.ACCEPTED
    before = store.snapshot(EVENT)
    assert claim(1, 2) is ReserveCode.ALREADY_CLAIMED
    assert claim(2, 3) is ReserveCode.SOLD_OUT, "two are left"
    after = store.snapshot(EVENT)
    assert (after.stock, after.sequence, after.backlog) == (before.stock, before.sequence, before.backlog) == (2, 2, 2)
    assert claim(2, 2) is ReserveCode.ACCEPTED
    assert store.snapshot(EVENT).stock == 0


def test_claims_of_one_call_take_from_one_another_as_wholes(store: StockStore) -> None:
    put_stock(store, 5, per_user_limit=3)
    asked = [(1, "", 3), (2, "", 3), (3, "", 2), (4, "", 1)]
    answers = store.reserve(EVENT, epoch=1, claims=asked).reservations
    accepted, sold_out = ReserveCode.ACCEPTED, ReserveCode.SOLD_OUT
    assert [one.code for one in answers] == [accepted, sold_out, accepted, sold_out]
    assert [entry.sequence for entry in store.read_log(EVENT, count=9)] == [1, 2, 3, 4, 5]


def test_a_claim_takes_the_ordinals_that_are_free(store: StockStore) -> None:
    put_stock(store, 10, per_user_limit=4)
    store.reserve(EVENT, epoch=1, claims=[(1, "", 1), (1, "", 1), (1, "", 1)])
    first, second, third = store.read_log(EVENT, count=9)
    store.release(EVENT, [second])
    store.reserve(EVENT, epoch=1, claims=[(1, "", 2)])
    assert [one.ordinal for one in store.read_log(EVENT, count=9)] == [1, 3, 2, 4]
    assert (first.ordinal, third.ordinal) == (1, 3)


# The drain ------------------------------------------------------------------------------------------------------------


def test_a_claim_of_several_is_one_thing_to_its_owner(sale: Sale, store: StockStore) -> None:
    event, caller = sale(quantity=10, per_user_limit=3), Caller(user := make_user())
    made = caller.post(f"/api/v1/events/{event.id}/claims", {"quantity": 3}, Idempotency_Key="k")
    assert (made.status_code, made.json()["quantity"], made.json()["sequence"]) == (202, 3, 1)
    assert caller.get(made["Location"]).json() == made.json()
    assert issue_claims(event.id, store) == 3
    told = caller.get(made["Location"]).json()
    codes = [coupon["code"] for coupon in told["coupons"]]
    assert (told["status"], told["quantity"], told["coupon"]) == ("issued", 3, told["coupons"][0])
    assert len(set(codes)) == 3
    assert {coupon["claim_id"] for coupon in told["coupons"]} == {made.json()["id"]}
    assert caller.get(f"/api/v1/events/{event.id}/claims").json() == [told]
    problem_of(caller.get(f"/api/v1/events/{event.id}/claims/{event.id}-1-2"), "not_found")
    (notification,) = Notification.objects.filter(user=user)
    assert notification.data == {"event_id": event.id, "claim_id": made.json()["id"], "code": codes[0]}
    assert_sum(store, event)


def test_a_batch_never_ends_within_a_claim(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=20, per_user_limit=4), make_users(4)
    for user in users:
        reserve(store, event, user, 4)
    seen: list[int] = []
    assert issue_claims(event.id, store, batch=6, tell=seen.append) == 16
    assert seen == [8, 8]
    assert_sum(store, event)


def test_a_claim_for_which_too_few_are_left_is_rejected_as_a_whole_and_the_next_may_fit(
    sale: Sale, store: StockStore
) -> None:
    event, (first, second, third) = sale(quantity=5, per_user_limit=3), make_users(3)
    load_too_high(store, event, 3)
    for user, quantity in ((first, 3), (second, 3), (third, 2)):
        reserve(store, event, user, quantity)
    issue_claims(event.id, store)
    assert numbers(event) == [(1, first), (2, first), (3, first), (7, third), (8, third)]
    failed = FailedClaim.objects.order_by("sequence")
    assert [(one.sequence, one.place, one.reason) for one in failed] == [
        (4, 1, Reason.STOCK_EXHAUSTED),
        (5, 2, Reason.STOCK_EXHAUSTED),
        (6, 3, Reason.STOCK_EXHAUSTED),
    ]
    assert Notification.objects.filter(user=second).count() == 1
    view = selectors.claim_of(event_id=event.id, user_id=second, claim_id=f"{event.id}-1-4")
    assert (view.status, view.quantity, view.reason) == ("rejected", 3, "stock_exhausted")
    assert_sum(store, event)


def test_one_unit_that_the_user_has_already_undoes_the_others(sale: Sale, store: StockStore) -> None:
    """Redis lost a claimant: the user gets an ordinal again that the database has given to them."""
    event, (user, neighbour) = sale(quantity=9, per_user_limit=3), make_users(2)
    (had,) = reserve(store, event, user, 1)
    issue_claims(event.id, store)
    store.client.hdel(store._keys(event.id)[1], str(user))
    reserve(store, event, neighbour, 2)
    reserve(store, event, user, 3)
    issue_claims(event.id, store)
    assert numbers(event) == [(1, user), (2, neighbour), (3, neighbour)], "not the two that were free"
    assert set(FailedClaim.objects.values_list("sequence", "reason")) == {(n, "already_claimed") for n in (4, 5, 6)}
    assert had.ordinal == 1
    assert_sum(store, event)


def test_a_claim_of_several_that_the_database_refuses_is_tried_again_and_given_up_as_a_whole(
    sale: Sale, store: StockStore
) -> None:
    event, (before, after) = sale(quantity=9, per_user_limit=3), make_users(2)
    for user in (before, NOBODY, after):
        reserve(store, event, user, 3)
    assert issue_claims(event.id, store) == 6
    for attempt in (1, 2, 3):
        assert set(FailedClaim.objects.values_list("attempts", "status")) == {(attempt, "retrying")}
        make_due(event)
        issue_claims(event.id, store)
    assert list(FailedClaim.objects.values_list("status", "reason")) == [("rejected", "error")] * 3
    assert store.snapshot(event.id).stock == 3
    assert_sum(store, event)


def test_a_crash_between_commit_and_settling_leaves_a_whole_claim(sale: Sale, store: StockStore) -> None:
    event, (first, second) = sale(quantity=6, per_user_limit=3), make_users(2)
    reserve(store, event, first, 3)
    with patch.object(issuing, "_settle", side_effect=Crash), pytest.raises(Crash):
        issue_claims(event.id, store)
    reserve(store, event, second, 3)
    assert issue_claims(event.id, store) == 3
    assert not FailedClaim.objects.exists()
    assert [user for _, user in numbers(event)] == [first] * 3 + [second] * 3
    assert_sum(store, event)


def test_an_operator_retries_or_abandons_a_claim_of_several_as_a_whole(sale: Sale, store: StockStore) -> None:
    event, (first, second) = sale(quantity=3, per_user_limit=3), make_users(2)
    load_too_high(store, event, 2)
    reserve(store, event, first, 3)
    reserve(store, event, second, 2)
    issue_claims(event.id, store)
    failed = FailedClaim.objects.order_by("sequence").first()
    assert failed is not None
    sales.change(
        event_id=event.id,
        **{name: getattr(event, name) for name in ("opens_at", "closes_at", "rate_per_second", "burst")},
        per_user_limit=3,
        quantity=5,
    )
    services.retry_failed_claim(failed_id=failed.pk)
    assert set(FailedClaim.objects.values_list("status", flat=True)) == {"issued"}
    assert len(store.held_by(event.id, second)[0]) == 2
    assert [user for _, user in numbers(event)] == [first] * 3 + [second] * 2
    assert_sum(store, event)


# Both lanes, and without Redis ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantity", [0, -1, 4, 1.0, "2", True, None, [1], {}, 2**70])
def test_what_is_no_number_of_units_that_one_may_claim_is_invalid(sale: Sale, quantity: object) -> None:
    event, caller = sale(quantity=10, per_user_limit=3), Caller(make_user())
    told = problem_of(caller.post(f"/api/v1/events/{event.id}/claims", {"quantity": quantity}), "invalid")
    assert told["errors"] == {"quantity": ["A whole number from 1 to 3."]}


@pytest.fixture(params=["redis", "database"])
def sold_from(request: pytest.FixtureRequest, sale: Sale) -> Sale:
    def make(**fields: object) -> Event:
        event = sale(**fields)
        if request.param == "database":
            assert modes.fall_back(event.id, epoch=1)
            event.refresh_from_db()
        return event

    return make


def claim_each(event: Event, users: Sequence[int], quantity: int) -> None:
    for user in users:
        services.claim(event_id=event.id, user_id=user, quantity=quantity)


def test_claims_of_several_are_refused_alike_wherever_the_sale_sells_from(sold_from: Sale, store: StockStore) -> None:
    event, (one, two, three) = sold_from(quantity=7, per_user_limit=3), make_users(3)
    first = services.claim(event_id=event.id, user_id=one, idempotency_key="k", quantity=2)
    again = services.claim(event_id=event.id, user_id=one, idempotency_key="k", quantity=1)
    assert (first.result, again.result, again.claim.id) == ("accepted", "repeated", first.claim.id)
    assert again.claim.quantity == 2
    with pytest.raises(AlreadyClaimed) as refused:
        services.claim(event_id=event.id, user_id=one, quantity=2)
    assert (refused.value.claim.id, refused.value.claim.quantity) == (first.claim.id, 2)
    with pytest.raises(Invalid):
        services.claim(event_id=event.id, user_id=two, quantity=4)
    claim_each(event, [two], 3)
    with pytest.raises(SoldOut):
        services.claim(event_id=event.id, user_id=three, quantity=3)
    claim_each(event, [one], 1)
    claim_each(event, [three], 1)
    issue_claims(event.id, store)
    assert [user for _, user in numbers(event)] == [one, one, two, two, two, one, three]
    assert len(selectors.claims_of(event_id=event.id, user_id=one)) == 2


def test_a_limit_that_an_operator_has_lowered_is_told_by_the_script(sale: Sale, store: StockStore) -> None:
    """The process has not heard of it yet."""
    event, user = sale(quantity=10, per_user_limit=3), make_user()
    known = services.known_event(event.id)
    store.client.hset(store._keys(event.id)[0], "limit", 2)
    with pytest.raises(Invalid) as refused:
        services.claim(event_id=event.id, user_id=user.pk, quantity=3)
    assert known.per_user_limit == 3
    assert refused.value.errors == {"quantity": ["A whole number from 1 to 2."]}


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=list(STRATEGIES))
def test_a_strategy_gives_several_in_a_claim_or_says_that_it_does_not(
    sale: Sale, store: StockStore, strategy: Strategy
) -> None:
    limit = 1 if strategy.name in HOLDER_WAYS else 3
    event, user = sale(strategy=strategy.name, quantity=5, per_user_limit=limit), make_user()
    if strategy.several:
        services.claim(event_id=event.id, user_id=user.pk, quantity=3)
        issue_claims(event.id, store)
        assert [sequence for sequence, _ in numbers(event)] == [1, 2, 3]
    else:
        with pytest.raises(Invalid):
            services.claim(event_id=event.id, user_id=user.pk, quantity=2)
    event.refresh_from_db()
    assert event.issued == Coupon.objects.count() == (3 if strategy.several else 0)


# Negative controls ----------------------------------------------------------------------------------------------------


def test_without_its_guard_a_claim_is_issued_in_part(sale: Sale, store: StockStore) -> None:
    event, (user,) = sale(quantity=9, per_user_limit=3), make_users(1)
    reserve(store, event, user, 1)
    issue_claims(event.id, store)
    store.client.hdel(store._keys(event.id)[1], str(user))
    reserve(store, event, user, 3)
    with patch.object(issuing, "_require_whole"):
        issue_claims(event.id, store)
    assert [sequence for sequence, _ in numbers(event)] == [1, 3, 4]


def test_a_drain_that_parts_a_claim_issues_a_part_of_it(sale: Sale, store: StockStore) -> None:
    event, (first, second) = sale(quantity=4, per_user_limit=3), make_users(2)
    load_too_high(store, event, 2)
    reserve(store, event, first, 3)
    reserve(store, event, second, 3)
    with patch.object(issuing, "_that_fit", lambda pending, left: (pending[:left], pending[left:])):
        issue_claims(event.id, store)
    assert numbers(event)[3:] == [(4, second)]
