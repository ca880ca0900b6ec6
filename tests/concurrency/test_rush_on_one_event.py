"""Many at once on one event: exactly N, one each, numbers without a gap, and the sum always holds."""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from subprocess import PIPE, Popen

from django.conf import settings
from django.db import connection
from redis import Redis

from coupons import services
from coupons.errors import AlreadyClaimed
from coupons.issuing import issue_claims
from coupons.stock.codes import ReserveCode
from coupons.stock.store import StockStore
from events.catalogue import catalogue
from events.errors import SoldOut
from events.models import Event
from tests.concurrency.children import environment
from tests.factories import make_users
from tests.sales import assert_sold_out_exactly, assert_sum

Sale = Callable[..., Event]


def at_once(works: Sequence[Callable[[], None]]) -> None:
    """Run all, each in a thread of its own, from one moment on; the first failure is raised here."""
    barrier = threading.Barrier(len(works))
    failures: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            barrier.wait(30)
            work()
        except BaseException as error:  # noqa: BLE001 - raised in the test's thread
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


def test_sixty_threads_with_double_claims_get_exactly_what_there_is(sale: Sale, store: StockStore) -> None:
    """Every user claims twice, from two threads; connections of their own, as web processes have."""
    event, users = sale(quantity=100), make_users(300)
    answers: list[tuple[int, ReserveCode, int]] = []

    def work(mine: list[int]) -> Callable[[], None]:
        def claim() -> None:
            with Redis.from_url(settings.STOCK_REDIS_URL, decode_responses=True) as client:
                own = StockStore(client)
                for user in mine:
                    (one,) = own.reserve(event.id, epoch=1, claims=[(user, "")]).reservations
                    answers.append((user, one.code, one.sequence))

        return claim

    at_once([work(users[i % 30 :: 30]) for i in range(60)])
    counts = Counter(code for _, code, _ in answers)
    assert counts[ReserveCode.ACCEPTED] == 100
    assert set(counts) <= {ReserveCode.ACCEPTED, ReserveCode.ALREADY_CLAIMED, ReserveCode.SOLD_OUT}
    accepted = {user: sequence for user, code, sequence in answers if code is ReserveCode.ACCEPTED}
    assert sorted(accepted.values()) == list(range(1, 101))
    for user, code, sequence in answers:
        if code is ReserveCode.ALREADY_CLAIMED:
            assert accepted[user] == sequence, "who asks again is told of the same claim"
    assert_sum(store, event)
    issue_claims(event.id, store)
    assert_sold_out_exactly(store, event)


def test_fifty_threads_through_the_service_while_four_drain(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=150), make_users(250)
    catalogue.get(event.id)
    results: list[str] = []
    claiming = threading.Semaphore(0)

    def claim(mine: list[int]) -> Callable[[], None]:
        def work() -> None:
            for user in mine * 2:
                try:
                    services.claim(event_id=event.id, user_id=user, idempotency_key=str(user))
                    results.append("accepted")
                except (SoldOut, AlreadyClaimed) as refusal:
                    results.append(refusal.code)
            claiming.release()

        return work

    def drain() -> None:
        while claiming._value < 50 or store.snapshot(event.id).backlog:
            issue_claims(event.id, store, batch=13)

    at_once([*(claim(users[i::50]) for i in range(50)), *[drain] * 4])
    assert len(results) == 500
    assert results.count("accepted") == 300, "150 claims, each asked for twice under one key"
    assert results.count("already_claimed") == 0
    issue_claims(event.id, store)
    assert_sold_out_exactly(store, event)


def test_several_drainers_write_each_claim_once_and_in_order(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=200), make_users(200)
    store.reserve(event.id, epoch=1, claims=[(user, "") for user in users])
    issued: list[int] = []

    def drain() -> None:
        while store.snapshot(event.id).backlog:
            issued.append(issue_claims(event.id, store, batch=5))

    at_once([drain] * 6)
    assert sum(issued) == 200
    assert_sold_out_exactly(store, event)


def test_a_user_who_sends_fifty_requests_at_once_gets_one_coupon(sale: Sale, store: StockStore) -> None:
    event, (user,) = sale(quantity=50, burst=1000), make_users(1)
    codes: list[ReserveCode] = []
    at_once(
        [
            lambda: codes.append(store.reserve(event.id, epoch=1, claims=[(user, "")]).reservations[0].code)
            for _ in range(50)
        ]
    )
    assert Counter(codes) == {ReserveCode.ACCEPTED: 1, ReserveCode.ALREADY_CLAIMED: 49}
    issue_claims(event.id, store)
    assert_sum(store, event)
    assert store.snapshot(event.id).stock == 49


def test_four_processes_on_one_event_get_exactly_what_there_is(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=200), make_users(300)
    first, last = users[0], users[-1]
    command = [sys.executable, "-m", "tests.concurrency.claiming", str(event.id), str(first), str(last)]
    children = [Popen(command, env=environment(), stdin=PIPE, stdout=PIPE, text=True) for _ in range(4)]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:  # all are up: let them go together
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        accepted = [sequence for child in children for sequence in _sequences(child)]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert sorted(accepted) == list(range(1, 201))
    assert_sum(store, event)
    issue_claims(event.id, store)
    assert_sold_out_exactly(store, event)


def _sequences(child: "Popen[str]") -> list[int]:
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    return [int(line) for line in out.split()]
