"""`manage.py issue_claims`: what a worker does, by hand."""

from collections.abc import Callable
from io import StringIO
from typing import Any
from unittest.mock import patch

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from coupons import issuing
from coupons.locks import NAMESPACE
from coupons.models import Coupon, FailedClaim
from coupons.stock.store import StockStore
from events.models import Event
from tests.factories import make_event, make_users
from tests.outages import no_database, no_redis
from tests.sales import NOBODY, assert_sold_out_exactly, assert_sum, reserve

Sale = Callable[..., Event]

pytestmark = pytest.mark.django_db(transaction=True)


def run(*arguments: object) -> tuple[str, str, int]:
    """Call the command: what it told, its error, its exit status."""
    out = StringIO()
    try:
        call_command("issue_claims", *map(str, arguments), stdout=out)
    except CommandError as error:
        return out.getvalue(), str(error), error.returncode
    return out.getvalue(), "", 0


def test_it_issues_what_waits_in_all_logs(sale: Sale, store: StockStore) -> None:
    users = make_users(5)
    first, idle, second = sale(quantity=5), sale(), sale(quantity=2)
    reserve(store, first, *users)
    reserve(store, second, *users[:2])
    told, _, status = run()
    assert told == f"event {first.id}: 5 claims issued.\nevent {second.id}: 2 claims issued.\n"
    assert status == 0
    assert_sold_out_exactly(store, first)
    assert_sold_out_exactly(store, second)
    assert_sum(store, idle)
    assert run() == ("No claim waits.\n", "", 0)


def test_it_leaves_the_other_sales_alone_where_one_is_named(sale: Sale, store: StockStore) -> None:
    (user,) = make_users(1)
    named, other = sale(), sale()
    reserve(store, named, user)
    reserve(store, other, user)
    assert run(named.id) == (f"event {named.id}: 1 claims issued.\n", "", 0)
    assert store.snapshot(other.id).backlog == 1


def test_it_shows_on_the_error_stream_how_far_it_is(
    sale: Sale, store: StockStore, capsys: pytest.CaptureFixture[str]
) -> None:
    event, users = sale(quantity=5), make_users(4)
    reserve(store, event, *users, NOBODY)
    run(event.id)
    assert "4/5" in capsys.readouterr().err, "one of the five stays: the database refuses it"


def test_it_says_when_another_drainer_is_at_work(sale: Sale, store: StockStore) -> None:
    event, users = sale(), make_users(3)
    reserve(store, event, *users)
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [NAMESPACE + event.id])
            told, error, status = run(event.id)
    finally:
        other.close()
    assert f"event {event.id}: 3 claims wait still: another drainer is at work on it." in told
    assert (error, status) == ("3 claims wait still.", 1)
    assert not Coupon.objects.exists()


def test_it_says_when_claims_fail_and_are_tried_again(sale: Sale, store: StockStore) -> None:
    event, users = sale(), make_users(2)
    reserve(store, event, users[0], NOBODY, users[1])
    told, error, status = run()
    assert f"event {event.id}: 2 claims issued." in told
    assert f"event {event.id}: 1 claims wait still: they failed, and are tried again" in told
    assert (error, status) == ("1 claims wait still.", 1)
    assert FailedClaim.objects.get().status == FailedClaim.Status.RETRYING


def test_claims_that_come_meanwhile_are_not_reported_as_left(sale: Sale, store: StockStore) -> None:
    event, users = sale(), make_users(3)
    reserve(store, event, *users[:2])
    drain = issuing.issue_claims

    def drain_and_claim(event_id: int, of: StockStore, **options: Any) -> int:
        issued = drain(event_id, of, **options)
        reserve(store, event, users[2])
        return issued

    with patch.object(issuing, "issue_claims", drain_and_claim):
        assert run() == (f"event {event.id}: 2 claims issued.\n", "", 0)
    assert store.snapshot(event.id).backlog == 1


def test_it_refuses_what_nobody_can_have_claimed_from() -> None:
    assert run(4711) == ("", "There is no event 4711.", 2)
    draft = make_event()
    assert run(draft.id) == ("", f"Event {draft.id} is a draft: nobody can have claimed from it.", 2)


def test_it_says_in_one_line_which_server_is_away(sale: Sale, store: StockStore) -> None:
    event, users = sale(), make_users(1)
    reserve(store, event, *users)
    with no_redis():
        told, error, status = run()
    assert error.startswith("Redis cannot be asked")
    assert (told, status, "\n" in error) == ("", 2, False)
    with no_database():
        told, error, status = run(event.id)
    assert error.startswith("PostgreSQL cannot be asked")
    assert (told, status, "\n" in error) == ("", 2, False)
    assert run(event.id)[2] == 0, "what waited was not lost"


def test_interrupted_it_loses_nothing(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=3), make_users(3)
    reserve(store, event, *users)
    with patch.object(issuing, "_settle", side_effect=KeyboardInterrupt):
        assert run() == ("", "interrupted: the rest waits in the claim log.", 130)
    assert run()[2] == 0
    assert_sold_out_exactly(store, event)
