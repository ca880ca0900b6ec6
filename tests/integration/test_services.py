"""Making a claim: what each refusal means, what a repeated request gets, what is asked of whom."""

import threading
from collections.abc import Callable
from datetime import timedelta
from unittest.mock import patch

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis.connection import AbstractConnection

from coupons import issuing, reconciling, selectors, services
from coupons.errors import AlreadyClaimed, ClaimNotFound
from coupons.metrics import CLAIMS
from coupons.nudging import nudger
from coupons.stock.store import StockStore
from events import services as sales
from events.catalogue import catalogue
from events.errors import Closed, EventNotFound, NotOpen, Paused, RateLimited, Refusal, SoldOut, Unavailable
from events.models import Event
from tests.factories import make_event, make_user, make_users
from tests.outages import no_database, no_redis, silent_server, stock_at

Sale = Callable[..., Event]


def test_a_claim_is_accepted_with_its_name_its_number_and_its_time(sale: Sale) -> None:
    event, user = sale(), make_user()
    before = timezone.now()
    claimed = services.claim(event_id=event.id, user_id=user.pk)
    assert claimed.result == "accepted"
    view = claimed.claim
    assert (str(view.id), view.status, view.coupon, view.reason) == (f"{event.id}-1-1", "pending", None, None)
    assert before - timedelta(milliseconds=1) <= view.claimed_at <= timezone.now()
    assert view.as_json()["sequence"] == 1


def test_a_claim_costs_no_query_and_one_round_trip(sale: Sale) -> None:
    event, (first, second) = sale(), make_users(2)
    services.claim(event_id=event.id, user_id=first)  # the process knows the event, the server the script
    sent, here = [], threading.current_thread()
    send = AbstractConnection.send_packed_command

    def counted(self: AbstractConnection, *arguments: object, **options: object) -> None:
        if threading.current_thread() is here:  # a reading of the catalogue may still be under way in another
            sent.append(arguments)
        send(self, *arguments, **options)

    with (
        patch.object(catalogue, "interval", 3600),
        patch.object(AbstractConnection, "send_packed_command", counted),
        patch.object(nudger, "nudge"),
        CaptureQueriesContext(connection) as queries,
    ):
        catalogue.clear()
        catalogue.get(event.id)
        queries_before, sent_before = len(queries), len(sent)
        services.claim(event_id=event.id, user_id=second)
        assert len(queries) == queries_before
        assert len(sent) == sent_before + 1


def test_the_same_key_gets_the_first_answer_and_another_is_told_of_it(sale: Sale, store: StockStore) -> None:
    event, user = sale(quantity=5), make_user()
    first = services.claim(event_id=event.id, user_id=user.pk, idempotency_key="one")
    again = services.claim(event_id=event.id, user_id=user.pk, idempotency_key="one")
    assert (again.result, again.claim) == ("repeated", first.claim)
    for other in ("two", ""):
        with pytest.raises(AlreadyClaimed) as refused:
            services.claim(event_id=event.id, user_id=user.pk, idempotency_key=other)
        assert refused.value.claim == first.claim
    assert store.snapshot(event.id).stock == 4


def test_a_key_of_another_user_is_another_key(sale: Sale) -> None:
    event, (first, second) = sale(), make_users(2)
    one = services.claim(event_id=event.id, user_id=first, idempotency_key="same")
    other = services.claim(event_id=event.id, user_id=second, idempotency_key="same")
    assert [one.claim.id.sequence, other.claim.id.sequence] == [1, 2]


@pytest.mark.parametrize("key", ["a.b;c:d", "é漢字", "x" * 4096, " ", "\x00"])
def test_no_key_of_a_client_disturbs_what_redis_holds(sale: Sale, store: StockStore, key: str) -> None:
    event, user = sale(), make_user()
    first = services.claim(event_id=event.id, user_id=user.pk, idempotency_key=key)
    assert services.claim(event_id=event.id, user_id=user.pk, idempotency_key=key).claim == first.claim
    assert len(store.held_by(event.id, user.pk)[0]) == 1


def test_an_issued_claim_is_said_to_be_issued_to_who_asks_again(sale: Sale, store: StockStore) -> None:
    event, user = sale(), make_user()
    services.claim(event_id=event.id, user_id=user.pk)
    issuing.issue_claims(event.id, store)
    with pytest.raises(AlreadyClaimed) as refused:
        services.claim(event_id=event.id, user_id=user.pk)
    assert refused.value.claim.status == "issued"
    assert refused.value.fields()["claim"]["status"] == "issued"


# Refusals -------------------------------------------------------------------------------------------------------------


def counted(code: str) -> float:
    return float(CLAIMS.labels(result=code)._value.get())


def refusal_of(event_id: int, error: type[Exception]) -> Exception:
    """The refusal a claim meets, which is counted by its code."""
    code = error.code  # type: ignore[attr-defined]
    before = counted(code)
    with pytest.raises(error) as refused:
        services.claim(event_id=event_id, user_id=1)
    assert counted(code) == before + 1
    return refused.value


def test_an_unknown_event_and_a_draft_are_not_found(transactional_db: None) -> None:
    refusal_of(404, EventNotFound)
    refusal_of(make_event().id, EventNotFound)


def test_before_the_opening_it_is_told(sale: Sale) -> None:
    opens_at = timezone.now().replace(microsecond=0) + timedelta(hours=1)
    refusal = refusal_of(sale(opens_at=opens_at, closes_at=opens_at + timedelta(hours=1)).id, NotOpen)
    assert isinstance(refusal, NotOpen)
    assert refusal.fields() == {"opens_at": opens_at}


def test_a_paused_sale_is_paused_and_a_closed_one_closed(sale: Sale) -> None:
    event = sale()
    sales.pause(event_id=event.id)
    refusal_of(event.id, Paused)
    sales.close(event_id=event.id)
    refusal_of(event.id, Closed)
    catalogue.refresh()
    refusal_of(event.id, Closed)


def test_a_closed_sale_needs_no_redis_to_be_refused(sale: Sale) -> None:
    event = sale()
    sales.close(event_id=event.id)
    with no_redis():
        refusal_of(event.id, Closed)


def test_a_repeated_request_gets_its_first_answer_when_the_sale_is_paused_or_over(
    sale: Sale, store: StockStore
) -> None:
    event, (user, other) = sale(), make_users(2)
    first = services.claim(event_id=event.id, user_id=user, idempotency_key="k")

    def repeated() -> None:
        again = services.claim(event_id=event.id, user_id=user, idempotency_key="k")
        assert (again.claim, again.result) == (first.claim, "repeated")

    def refused(error: type[Refusal]) -> None:
        for who, key in ((user, "another"), (user, ""), (other, "k")):
            with pytest.raises(error):
                services.claim(event_id=event.id, user_id=who, idempotency_key=key)

    sales.pause(event_id=event.id)
    repeated()
    refused(Paused)
    sales.close(event_id=event.id)
    repeated()
    refused(Closed)
    catalogue.refresh()  # now the process knows by itself that it is over
    repeated()
    refused(Closed)
    assert store.snapshot(event.id).backlog == 1
    with no_redis(), pytest.raises(Unavailable):
        services.claim(event_id=event.id, user_id=user, idempotency_key="k")


def test_a_process_that_believes_a_sale_over_takes_no_unit_of_it(sale: Sale, store: StockStore) -> None:
    event = sale()
    before = store.snapshot(event.id)
    Event.objects.filter(pk=event.id).update(closes_at=timezone.now())  # behind the back of Redis, where it is open
    catalogue.refresh()
    with pytest.raises(Closed):
        services.claim(event_id=event.id, user_id=1, idempotency_key="k")
    after = store.snapshot(event.id)
    assert (after.stock, after.sequence, after.backlog) == (before.stock, before.sequence, before.backlog)


def test_a_sold_out_sale_is_sold_out(sale: Sale) -> None:
    event = sale(quantity=1)
    services.claim(event_id=event.id, user_id=2)
    refusal_of(event.id, SoldOut)


def test_who_asks_too_often_is_told_how_long_to_wait(sale: Sale) -> None:
    event = sale(rate_per_second=1, burst=1)
    services.claim(event_id=event.id, user_id=1)
    refusal = refusal_of(event.id, RateLimited)
    assert isinstance(refusal, RateLimited)
    assert 0 < refusal.retry_after <= 1


def test_a_stock_that_is_not_loaded_is_unavailable_and_not_sold_out(sale: Sale, store: StockStore) -> None:
    event = sale()
    store.unload(event.id)
    refusal_of(event.id, Unavailable)


def test_a_process_that_has_not_heard_of_a_load_is_unavailable_until_it_has(sale: Sale, store: StockStore) -> None:
    event, user = sale(), make_user()
    with patch.object(catalogue, "interval", 3600):
        catalogue.get(event.id)
        store.unload(event.id)
        reconciling.reconcile(event.id, store)
        refusal_of(event.id, Unavailable)
    catalogue.refresh()
    assert services.claim(event_id=event.id, user_id=user.pk).claim.id.epoch == 2


def test_without_redis_a_claim_is_unavailable(sale: Sale) -> None:
    event = sale()
    catalogue.get(event.id)
    with no_redis():
        refusal = refusal_of(event.id, Unavailable)
    assert isinstance(refusal, Unavailable)
    assert refusal.retry_after > 0


def test_a_redis_that_hangs_is_asked_once_and_given_up(sale: Sale, store: StockStore) -> None:
    """Not timed: one connection is made, so nothing retries, and the timeout of one is the setting's."""
    event = sale()
    catalogue.get(event.id)
    with silent_server() as listener, stock_at(f"redis://127.0.0.1:{listener.getsockname()[1]}/0"):
        catalogue.clear()
        with patch.object(catalogue, "_ensure_reading"), pytest.raises(Unavailable):
            services.claim(event_id=event.id, user_id=1)
        listener.accept()[0].close()
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert settings.STOCK_REDIS_TIMEOUT < 1


def test_a_sale_that_is_known_goes_on_without_the_database(sale: Sale, store: StockStore) -> None:
    event = sale()
    catalogue.get(event.id)
    with no_database():
        assert services.claim(event_id=event.id, user_id=1).claim.id.sequence == 1


# Looking a claim up ---------------------------------------------------------------------------------------------------


def test_a_pending_claim_costs_no_query_and_an_issued_one_has_its_coupon(sale: Sale, store: StockStore) -> None:
    event, user = sale(), make_user()
    name = str(services.claim(event_id=event.id, user_id=user.pk).claim.id)
    with CaptureQueriesContext(connection) as queries:
        assert selectors.claim_of(event_id=event.id, user_id=user.pk, claim_id=name).status == "pending"
    assert len(queries) == 0
    issuing.issue_claims(event.id, store)
    view = selectors.claim_of(event_id=event.id, user_id=user.pk, claim_id=name)
    assert view.status == "issued"
    assert view.coupon is not None
    assert [one.id for one in selectors.claims_of(event_id=event.id, user_id=user.pk)] == [view.id]


def test_a_claim_of_another_user_or_event_is_not_found(sale: Sale, store: StockStore) -> None:
    event, other, (mine, theirs) = sale(), sale(), make_users(2)
    name = str(services.claim(event_id=event.id, user_id=mine).claim.id)
    for drained in range(2):
        with pytest.raises(ClaimNotFound):
            selectors.claim_of(event_id=event.id, user_id=theirs, claim_id=name)
        with pytest.raises(ClaimNotFound):
            selectors.claim_of(event_id=other.id, user_id=mine, claim_id=name)
        assert selectors.claims_of(event_id=event.id, user_id=theirs) == []
        assert issuing.issue_claims(event.id, store) == 1 - drained


@pytest.mark.parametrize("name", ["", "x", "{id}-1", "{id}-1-01", "{id}-1-99", "{id}-2-1"])
def test_a_name_that_is_none_is_not_found(sale: Sale, name: str) -> None:
    event, user = sale(), make_user()
    services.claim(event_id=event.id, user_id=user.pk)
    with pytest.raises(ClaimNotFound):
        selectors.claim_of(event_id=event.id, user_id=user.pk, claim_id=name.format(id=event.id))


def test_without_redis_an_issued_claim_is_told_and_an_unknown_one_is_unavailable(sale: Sale, store: StockStore) -> None:
    event, (mine, theirs) = sale(), make_users(2)
    issued = str(services.claim(event_id=event.id, user_id=mine).claim.id)
    issuing.issue_claims(event.id, store)
    waiting = str(services.claim(event_id=event.id, user_id=theirs).claim.id)
    with no_redis():
        assert selectors.claim_of(event_id=event.id, user_id=mine, claim_id=issued).status == "issued"
        with pytest.raises(Unavailable):
            selectors.claim_of(event_id=event.id, user_id=theirs, claim_id=waiting)
        with pytest.raises(Unavailable):
            selectors.claims_of(event_id=event.id, user_id=theirs)


def test_a_users_claims_are_told_newest_first_whatever_became_of_them(sale: Sale, store: StockStore) -> None:
    event, user = sale(per_user_limit=2), make_user()
    services.claim(event_id=event.id, user_id=user.pk)
    issuing.issue_claims(event.id, store)
    services.claim(event_id=event.id, user_id=user.pk)
    views = selectors.claims_of(event_id=event.id, user_id=user.pk)
    assert [(view.id.sequence, view.status) for view in views] == [(2, "pending"), (1, "issued")]
