"""The commands for operators and engineers, on real servers."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from config.embedded import free_port
from coupons import issuing, services
from coupons.models import Coupon, Reconciliation
from coupons.stock import keys
from coupons.stock.store import bulk_store
from events import services as event_services
from events.models import Event
from tests.factories import make_event, make_user
from tests.outages import no_database, no_redis

pytestmark = pytest.mark.django_db(transaction=True)


def run(*arguments):
    """Call a command; what it wrote to standard output."""
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def fails(*arguments):
    """Call a command that must fail; its error and its exit status."""
    with pytest.raises(CommandError) as error:
        run(*arguments)
    return str(error.value), error.value.returncode


# demo_data ------------------------------------------------------------------------------------------------------------


PASSWORD = "a good one"


@pytest.fixture(autouse=True)
def _quick_hashes(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def demo_data(*, users=12, quantity=3, password=PASSWORD):
    arguments = [f"--users={users}", f"--quantity={quantity}", f"--password={password}", "--json"]
    return json.loads(run("demo_data", *arguments))


def test_demo_data_makes_the_accounts_and_an_open_sale(store):
    answer = demo_data()
    event = Event.objects.get()
    assert answer == {
        "event_id": event.id, "slug": "demo", "quantity": 3, "users": 12,
        "operator": "operator", "customer": "customer",
    }  # fmt: skip
    assert event.phase(now=timezone.now(), remaining=store.snapshot(event.id).stock) == "open"
    assert store.snapshot(event.id).stock == 3
    names = list(User.objects.filter(is_staff=False).order_by("id").values_list("username", flat=True))
    assert names == [*(f"demo{number:05}" for number in range(1, 13)), "customer"]
    operator = User.objects.get(username="operator")
    assert operator.is_superuser
    assert all(user.check_password(PASSWORD) for user in (operator, User.objects.get(username="demo00012")))
    assert User.objects.values("password").distinct().count() == 1


def test_demo_data_again_changes_nothing():
    first = demo_data()
    before = list(User.objects.order_by("id").values())
    assert demo_data() == first
    assert list(User.objects.order_by("id").values()) == before
    assert Event.objects.count() == 1


def test_demo_data_adds_the_users_that_are_missing():
    demo_data(users=2)
    demo_data(users=5)
    assert User.objects.filter(username__startswith="demo").count() == 5


def test_demo_data_gives_its_own_accounts_a_new_password():
    demo_data()
    demo_data(password="a better one")
    assert User.objects.get(username="customer").check_password("a better one")
    assert User.objects.values("password").distinct().count() == 1


@pytest.mark.parametrize("name", ["operator", "customer", "demo00001"])
def test_demo_data_leaves_an_account_alone_that_it_did_not_make(name):
    User.objects.create_user(name, password="mine")
    message, _ = fails("demo_data", "--users=2", "--password=x")
    assert name in message
    assert User.objects.get().check_password("mine")
    assert not Event.objects.exists()


def test_demo_data_makes_a_fresh_sale_once_the_last_was_claimed_from():
    first = demo_data()
    services.claim(event_id=first["event_id"], user_id=make_user().id)
    second = demo_data()
    assert (second["slug"], second["event_id"]) == ("demo-2", first["event_id"] + 1)
    assert demo_data() == second


@pytest.mark.parametrize(
    "spoil",
    [
        lambda event: Event.objects.filter(pk=event).update(
            opens_at=timezone.now() - timedelta(days=2), closes_at=timezone.now() - timedelta(days=1)
        ),
        lambda event: event_services.close(event_id=event),
        lambda event: event_services.pause(event_id=event),
        lambda event: bulk_store().unload(event),
        lambda event: bulk_store().client.set(keys.state(event), "not a hash"),
    ],
    ids=["over", "closed", "paused", "not in Redis", "damaged"],
)
def test_demo_data_makes_a_fresh_sale_where_the_last_cannot_be_claimed_from(spoil):
    spoil(demo_data()["event_id"])
    assert demo_data()["slug"] == "demo-2"


def test_demo_data_makes_a_fresh_sale_for_another_quantity():
    demo_data(quantity=3)
    answer = demo_data(quantity=4)
    assert (answer["slug"], answer["quantity"]) == ("demo-2", 4)


def test_demo_data_wants_a_password(monkeypatch):
    monkeypatch.delenv("DEMO_PASSWORD", raising=False)
    message, _ = fails("demo_data", "--users=1")
    assert "DEMO_PASSWORD" in message
    monkeypatch.setenv("DEMO_PASSWORD", "from outside")
    run("demo_data", "--users=1")
    assert User.objects.get(username="customer").check_password("from outside")


def test_demo_data_without_redis_fails_in_one_line_and_leaves_no_draft():
    with no_redis():
        message, _ = fails("demo_data", "--users=1", "--password=x")
    assert "Redis" in message
    assert not Event.objects.exists()


# reconcile ------------------------------------------------------------------------------------------------------------


def drifted(sale, store):
    """A sale whose stock in Redis has lost two units."""
    event = sale(quantity=5)
    store.client.hincrby(keys.state(event.id), "stock", -2)
    return event


def test_reconcile_says_when_all_agree(sale):
    sale()
    assert "agree" in run("reconcile")
    assert run("reconcile", "--dry-run") == run("reconcile")
    assert not Reconciliation.objects.exists()


def test_reconcile_mends_what_it_sees_twice(sale, store):
    event = drifted(sale, store)
    table = run("reconcile")
    assert store.snapshot(event.id).stock == 5
    row = Reconciliation.objects.get()
    assert (row.kind, row.expected, row.found) == ("stock", 5, 3)
    assert row.mended_at
    assert row.get_kind_display()[:20] in table
    assert "mended" in table
    assert "agree" in run("reconcile")


def test_reconcile_mends_claimants_who_hold_nothing(sale, store):
    event = sale(quantity=5)
    store.client.hset(keys.claimants(event.id), "4711", "1.1.99.1700000000000.")
    assert "mended" in run("reconcile", f"--event={event.id}")
    assert store.snapshot(event.id).claimants == 0


def test_reconcile_loads_a_sale_that_redis_has_lost(sale, store):
    event = sale(quantity=5)
    user = make_user()
    services.claim(event_id=event.id, user_id=user.id)
    issuing.issue_claims(event.id, store)
    store.client.flushdb()
    assert "mended" in run("reconcile")
    snapshot = store.snapshot(event.id)
    assert (snapshot.stock, snapshot.claimants, snapshot.epoch) == (4, 1, event.epoch + 1)


def test_reconcile_leaves_claims_in_flight_alone(sale, store):
    event = sale(quantity=5)
    services.claim(event_id=event.id, user_id=make_user().id)
    assert "agree" in run("reconcile")
    assert store.snapshot(event.id).backlog == 1


def test_reconcile_of_one_event_does_not_touch_the_others(sale, store):
    other, event = drifted(sale, store), sale()
    assert "agree" in run("reconcile", f"--event={event.id}")
    assert store.snapshot(other.id).stock == 3


def test_a_dry_run_of_reconcile_changes_nothing_and_ends_with_1(sale, store):
    event = drifted(sale, store)
    out = StringIO()
    with pytest.raises(CommandError) as error:
        call_command("reconcile", "--dry-run", stdout=out)
    assert error.value.returncode == 1
    assert "5" in out.getvalue()
    assert store.snapshot(event.id).stock == 3
    assert not Reconciliation.objects.exists()


def test_reconcile_refuses_what_has_no_stock():
    assert fails("reconcile", "--event=4711") == ("There is no event 4711.", 2)
    message, status = fails("reconcile", f"--event={make_event().id}")
    assert "draft" in message
    assert status == 2


def test_reconcile_says_in_one_line_which_server_is_away(sale):
    sale()
    with no_redis():
        message, status = fails("reconcile")
    assert message.startswith("Redis cannot be asked")
    assert (status, "\n" in message) == (2, False)
    with no_database():
        message, status = fails("reconcile")
    assert message.startswith("PostgreSQL cannot be asked")
    assert status == 2


# rush: what it refuses. That it runs is for tests/acceptance/test_rush.py. --------------------------------------------


def rush(event_id, *arguments, users=1, url="http://localhost:9"):
    return fails("rush", f"--event={event_id}", f"--users={users}", f"--url={url}", *arguments)


def test_a_rush_needs_an_event():
    message, status = rush(4711)
    assert "no event 4711" in message
    assert status == 2


def test_a_rush_needs_an_open_event(sale):
    make_user()
    draft = make_event()
    paused, scheduled = sale(), sale(opens_at=timezone.now() + timedelta(minutes=1))
    event_services.pause(event_id=paused.id)
    told = {event.id: rush(event.id) for event in (draft, paused, scheduled)}
    assert "draft" in told[draft.id][0]
    assert "is paused, not open" in told[paused.id][0]
    assert "is scheduled, not open" in told[scheduled.id][0]
    assert {status for _, status in told.values()} == {2}


def test_a_rush_needs_a_sale_that_has_something_left(sale, store):
    event = sale(quantity=1)
    user = make_user()
    services.claim(event_id=event.id, user_id=user.id)
    issuing.issue_claims(event.id, store)
    assert rush(event.id) == (f"Event {event.id} is sold_out, not open.", 2)


def test_a_rush_waits_for_claims_under_way_to_be_issued_first(sale):
    event = sale(quantity=2)
    services.claim(event_id=event.id, user_id=make_user().id)
    message, status = rush(event.id)
    assert message.startswith("1 claims")
    assert status == 2


def test_a_rush_needs_as_many_users_as_it_is_to_have(sale):
    make_user()
    make_user(is_staff=True)
    make_user(is_active=False)
    message, status = rush(sale().id, users=2)
    assert "only 1 users" in message
    assert "demo_data --users 2" in message
    assert status == 2


def test_a_rush_needs_a_server(sale):
    make_user()
    url = f"http://127.0.0.1:{free_port()}"
    message, status = rush(sale().id, url=url)
    assert message.startswith(f"{url} cannot be reached")
    assert (status, "\n" in message) == (2, False)
    assert rush(sale().id, url="nonsense")[1] == 2
    assert not Coupon.objects.exists()


def test_a_rush_does_not_start_where_its_result_cannot_be_written(sale, tmp_path):
    make_user()
    message, status = rush(sale().id, f"--json={tmp_path / 'nowhere' / 'rush.json'}")
    assert "cannot be written" in message
    assert status == 2


def test_a_rush_without_redis_or_postgresql_says_so(sale):
    make_user()
    event = sale()
    with no_redis():
        assert rush(event.id) == ("Redis cannot be reached: the stock is unknown.", 2)
    with no_database():
        message, status = rush(event.id)
    assert message.startswith("PostgreSQL cannot be asked")
    assert status == 2


@pytest.mark.parametrize("option", ["--users=0", "--concurrency=0", "--duplicates=-1", "--timeout=0"])
def test_a_rush_refuses_a_number_that_makes_no_sense(option):
    message, _ = fails("rush", "--event=1", "--users=1", option)
    assert option.split("=")[0] in message
