"""The waiting room's script: numbers, ranks, turns, passes; each guard with a control that has it taken away."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from coupons.stock.codes import ReserveCode
from coupons.stock.records import LogEntry
from coupons.stock.store import StockStore
from events.waiting_room.codes import VisitCode
from tests.room_kit import Room
from tests.stock_kit import EVENT, FAR_FUTURE

MakeRoom = Callable[..., Room]


@pytest.fixture
def room(store: StockStore) -> MakeRoom:
    return lambda *replacements, **options: Room(store.client, *replacements, **options)


def test_who_comes_first_is_let_in_at_once_and_numbers_have_no_gap(room: MakeRoom) -> None:
    one = room(rate=1, max_active=1)
    first, second, third = one.join(1, 2, 3)
    assert (first.code, first.number) == (VisitCode.ADMITTED, 1)
    assert [(v.code, v.number, v.ahead) for v in (second, third)] == [
        (VisitCode.WAITING, 2, 0),
        (VisitCode.WAITING, 3, 1),
    ]


def test_joining_twice_is_asking(room: MakeRoom) -> None:
    one = room(rate=1, max_active=1)
    one.join(1, 2)
    assert one.join(2)[0].number == 2
    assert one.visit(("join", 3), ("join", 3)).visitors[1].number == 3
    assert one.join(4)[0].number == 4


def test_people_are_let_in_at_the_rate_in_order(room: MakeRoom) -> None:
    one = room(rate=2)
    one.join(*range(1, 11))
    admitted = []
    for _ in range(20):
        admitted += [user for user in range(1, 11) if str(user) not in one.passes() and one.is_admitted(user)]
        one.pass_time(0.5)
    assert admitted == list(range(2, 11)), "the first one was let in when joining"


def test_no_more_passes_than_may_be_alive(room: MakeRoom) -> None:
    one = room(rate=100, max_active=3)
    one.join(*range(1, 11))
    for _ in range(5):
        one.pass_time(1)
        one.visit(*[("ask", user) for user in range(1, 11)])
        assert len(one.passes()) <= 3
    assert len(one.passes()) == 3


def test_passes_are_bounded_even_where_too_many_are_called(room: MakeRoom) -> None:
    one = room(("return math.min(max_active, stock) - passes - called", "return 1000"), rate=100, max_active=3)
    one.join(*range(1, 11))
    one.pass_time(1)
    one.visit(*[("ask", user) for user in range(1, 11)])
    one.visit(*[("ask", user) for user in range(1, 11)])
    assert len(one.passes()) == 3


def test_a_pass_is_good_for_its_time_and_then_the_next_one_comes(room: MakeRoom) -> None:
    one = room(rate=10, max_active=1, pass_ttl=10)
    one.join(1, 2)
    one.pass_time(9.9)
    assert one.ask(2).code is VisitCode.WAITING
    one.pass_time(0.2)
    assert one.ask(2).code is VisitCode.ADMITTED
    assert one.ask(1).code is VisitCode.NO_TICKET


def test_absent_people_hold_nobody_up(room: MakeRoom) -> None:
    one = room(rate=10, max_active=1, pass_ttl=5)
    one.join(1, 2, 3, 4)
    one.pass_time(4)
    one.ask(4)
    one.pass_time(4)  # 1's pass is over; 2 and 3 have not come when they should have
    assert one.ask(4).code is VisitCode.ADMITTED


def test_a_turn_that_was_missed_is_kept_for_the_grace(room: MakeRoom) -> None:
    one = room(rate=10, max_active=2, pass_ttl=5, grace=30)
    one.join(1, 2, 3, 4)
    one.pass_time(8)
    assert one.ask(4).code is VisitCode.ADMITTED
    one.pass_time(20)
    assert one.ask(3).code is VisitCode.ADMITTED, "back within the grace"
    one.pass_time(20)
    assert one.join(5)[0].number == 5
    assert one.join(2)[0].number == 6, "after the grace one stands at the end"


def test_the_first_lane_goes_first(room: MakeRoom) -> None:
    one = room(rate=1, max_active=1, pass_ttl=2)
    one.join(1, 2)
    (vip,) = one.join(9, lane=0)
    assert vip.ahead == 0
    one.pass_time(2.1)
    assert [v.code for v in one.visit(("ask", 2), ("ask", 9)).visitors] == [VisitCode.WAITING, VisitCode.ADMITTED]


def test_who_leaves_frees_the_place_and_stands_at_the_end_afterwards(room: MakeRoom) -> None:
    one = room(rate=1, max_active=1)
    one.join(1, 2, 3)
    assert one.visit(("leave", 2)).visitors[0].code is VisitCode.LEFT
    assert one.ask(3).ahead == 0
    one.visit(("leave", 1))
    one.pass_time(1)
    assert one.ask(3).code is VisitCode.ADMITTED
    assert one.join(1)[0].code is VisitCode.RATE_LIMITED
    assert one.ask(2).code is VisitCode.NO_TICKET


def test_who_holds_all_that_they_may_is_told_of_the_last_claim_and_gets_no_ticket(room: MakeRoom) -> None:
    one = room()
    one.join(1)
    (accepted,) = one.stock.reserve(EVENT, epoch=1, claims=[(1, "")]).reservations
    for told in one.visit(("join", 1), ("ask", 1)).visitors:
        assert told.code is VisitCode.ALREADY_CLAIMED
        assert told.claim == (accepted.epoch, accepted.sequence, accepted.claimed_ms, 1, 0)
    one.stock.client.hset(f"sc:{{{EVENT}}}:state", "drained", accepted.sequence)
    assert one.ask(1).claim.drained == accepted.sequence
    assert one.visit(("leave", 1)).visitors[0].code is VisitCode.LEFT
    assert one.join(2)[0].number == 2


def test_who_may_have_another_coupon_joins_again(room: MakeRoom) -> None:
    one = room()
    one.stock.client.hset(f"sc:{{{EVENT}}}:state", "limit", 2)
    for code in (VisitCode.ADMITTED, VisitCode.ADMITTED, VisitCode.ALREADY_CLAIMED):
        one.pass_time(1)
        assert one.join(1)[0].code is code
        one.stock.reserve(EVENT, epoch=1, claims=[(1, "")])
    assert (one.ask(1).claim.epoch, one.ask(1).claim.sequence) == (1, 2), "the newest"


def test_a_ticket_that_came_back_to_who_has_claimed_is_given_up_at_the_next_visit(room: MakeRoom) -> None:
    one = room(rate=1, max_active=1)
    one.join(1, 2, 3)
    one.stock.client.hset(f"sc:{{{EVENT}}}:claimants", mapping={"1": "1.1.7.1.", "2": "1.1.8.1."})
    assert [told.code for told in one.visit(("ask", 1), ("ask", 2)).visitors] == [VisitCode.ALREADY_CLAIMED] * 2
    assert one.passes() == {}
    one.pass_time(1)
    assert one.ask(3).code is VisitCode.ADMITTED


def test_nobody_is_let_in_before_the_opening_nor_while_paused(room: MakeRoom) -> None:
    one = room(rate=100)
    one.stock.client.hset(f"sc:{{{EVENT}}}:state", "opens", one.now + 10_000)
    one.join(1, 2)
    one.pass_time(9)
    assert one.ask(1).code is VisitCode.WAITING
    one.pass_time(2)
    one.stock.client.hset(f"sc:{{{EVENT}}}:state", "status", "paused")
    assert one.ask(1).code is VisitCode.WAITING
    one.pass_time(10)
    one.stock.client.hset(f"sc:{{{EVENT}}}:state", "status", "published")
    one.ask(1)
    one.pass_time(1)
    assert [v.code for v in one.visit(("ask", 1), ("ask", 2)).visitors] == [VisitCode.ADMITTED] * 2


def test_a_pause_takes_nothing_from_a_pass(room: MakeRoom) -> None:
    one = room(rate=100, pass_ttl=10)
    one.join(1)
    one.stock.client.hset(f"sc:{{{EVENT}}}:state", "status", "paused")
    one.pass_time(1)
    one.ask(1)
    one.pass_time(100)
    assert one.ask(1).code is VisitCode.ADMITTED
    one.stock.client.hset(f"sc:{{{EVENT}}}:state", "status", "published")
    again = one.ask(1)
    assert again.code is VisitCode.ADMITTED
    assert again.expires_ms - one.now == 9000


def test_sold_out_ends_the_queue_and_a_close_too(room: MakeRoom) -> None:
    one = room(rate=1, max_active=1, units=1)
    one.join(1, 2)
    one.stock.client.hset(f"sc:{{{EVENT}}}:state", "stock", 0)
    assert one.ask(2).code is VisitCode.SOLD_OUT
    assert one.join(3)[0].code is VisitCode.SOLD_OUT
    one.pass_time((FAR_FUTURE - one.now) / 1000)
    assert one.ask(2).code is VisitCode.CLOSED


def test_a_pass_means_that_a_unit_is_there(room: MakeRoom) -> None:
    one = room(rate=100, max_active=100, units=2)
    one.join(1, 2, 3, 4)
    one.pass_time(1)
    codes = [v.code for v in one.visit(*[("ask", user) for user in (1, 2, 3, 4)]).visitors]
    assert codes == [VisitCode.ADMITTED] * 2 + [VisitCode.WAITING] * 2


def test_an_obedient_visitor_is_never_limited_and_a_hasty_one_is(room: MakeRoom) -> None:
    one = room(rate=1, max_active=1, pass_ttl=1000)
    one.join(*range(1, 6))
    for _ in range(50):
        told = one.ask(5)
        assert told.code is VisitCode.WAITING
        one.pass_time(told.poll_ms / 1000)
    codes = [one.ask(5).code for _ in range(30)]
    assert codes.count(VisitCode.RATE_LIMITED) == 9
    one.pass_time(60)
    assert one.ask(5).code is VisitCode.WAITING


def test_a_claim_needs_a_pass_and_takes_it(room: MakeRoom) -> None:
    one = room(rate=1, max_active=1)
    # The stock's own clock is the server's: a pass must be good by it.
    one.now = 0
    one.pass_time(FAR_FUTURE / 1000 - 100)
    one.join(1, 2)

    def claim(user: int) -> ReserveCode:
        return one.stock.reserve(EVENT, epoch=1, claims=[(user, "")]).reservations[0].code

    assert claim(2) is ReserveCode.NOT_ADMITTED
    assert claim(3) is ReserveCode.NOT_ADMITTED
    assert claim(1) is ReserveCode.ACCEPTED
    assert claim(1) is ReserveCode.ALREADY_CLAIMED
    assert one.passes() == {}
    one.pass_time(1)
    assert one.ask(2).code is VisitCode.ADMITTED, "the place was freed by the claim"


def test_a_stock_of_another_run_lets_nobody_in(room: MakeRoom) -> None:
    one = room()
    one.stock.client.hset(f"sc:{{{EVENT}}}:state", "run", "0" * 40)
    assert one.join(1)[0].code is VisitCode.NOT_LOADED


def test_the_wait_is_told_by_the_pace_of_late(room: MakeRoom) -> None:
    one = room(rate=10, max_active=1, pass_ttl=600)
    one.join(1, 2, 3, 4)
    assert one.ask(4).eta_ms == 200, "by the rate, as long as nothing is known"
    for _ in range(20):
        one.pass_time(2.1)
        one.visit(("ask", 2), ("ask", 3), ("ask", 4))
    assert one.ask(4).eta_ms > 600_000, "nobody comes in before a pass has ended"


def test_who_comes_early_is_held_to_the_moment_that_they_were_told(room: MakeRoom) -> None:
    one = room(rate=1, max_active=2, pass_ttl=20)
    one.join(*range(1, 40))
    told = one.ask(39)  # they joined this moment, and so come early
    one.pass_time(told.poll_ms * 0.8 / 1000)
    early = one.ask(39)
    assert abs(early.poll_ms - told.poll_ms * 0.2) <= 200, "a second tab is told the moment of the first"


def test_who_leaves_and_joins_in_one_call_waits_as_others_do(room: MakeRoom) -> None:
    one = room(rate=1, max_active=1)
    one.join(1, 2)
    left, again = one.visit(("leave", 2), ("join", 2)).visitors
    assert (left.code, again.code) == (VisitCode.LEFT, VisitCode.RATE_LIMITED)
    assert again.retry_ms == 2000


def test_who_is_called_comes_soon_however_long_the_first_lane_is(room: MakeRoom) -> None:
    one = room(rate=1, max_active=2, pass_ttl=1000)
    one.join(1, 2)
    one.pass_time(1)
    one.join(3)
    assert one.join(*range(100, 200), lane=0)[-1].poll_ms > 10_000
    one.rules = one.rules.__class__(1, 1, 1000, 30)
    assert one.ask(2).code is VisitCode.WAITING, "called, and no pass is free any more"
    assert one.ask(2).poll_ms <= 1100


def test_the_odds_count_those_of_the_first_lane(room: MakeRoom) -> None:
    one = room(rate=1, max_active=1)
    one.join(1)
    one.join(*range(100, 150), lane=0)
    last = one.join(2)[0]
    assert (last.ahead, last.before) == (0, 50)


def test_the_rank_in_a_shuffle_is_told_by_nothing_until_nobody_can_draw_another(room: MakeRoom) -> None:
    one = room(rate=10, seed="5eed")
    one.client.hset(f"sc:{{{EVENT}}}:state", "opens", one.now + 300_000)
    assert {told.poll_ms for told in one.join(*range(1, 500))} == {30_000}
    one.pass_time(285)
    assert len({told.poll_ms for told in one.visit(*[("ask", user) for user in range(1, 500)]).visitors}) > 100
    one.visit(("leave", 1))
    until_open = 15_000
    assert until_open - 1000 < one.join(1)[0].retry_ms <= until_open


def test_who_comes_back_in_a_crowd_is_held_to_the_rate(room: MakeRoom) -> None:
    one = room(rate=10, max_active=1000, grace=600)
    one.join(*range(1, 301))
    one.pass_time(60)
    for _ in range(40):  # all are away, and passed over
        one.pass_time(0.1)
        one.join(1000)
    everybody = [("ask", user) for user in range(1, 301)]
    one.visit(*everybody)
    one.visit(*everybody)
    assert len(one.passes()) <= 20
    for tenth in range(100):
        one.pass_time(0.1)
        one.visit(*everybody[tenth % 10 :: 10])
    assert 100 <= len(one.passes()) <= 130


# Units that may come back ---------------------------------------------------------------------------------------------


def give_back(one: Room, user: int) -> None:
    """The user's hold has ended."""
    (held,) = one.stock.held_by(EVENT, user)[0]
    entry = LogEntry(held.epoch, held.sequence, user, held.ordinal, held.claimed_ms)
    assert one.stock.release(EVENT, [entry], back="owner") == 1


def claim(one: Room, user: int) -> ReserveCode:
    return one.stock.reserve(EVENT, epoch=1, claims=[(user, "")]).reservations[0].code


def test_a_queue_goes_on_while_units_may_come_back_and_the_next_in_line_gets_them(room: MakeRoom) -> None:
    one = room(units=1, may_return=True)
    one.join(1, 2, 3)
    assert claim(one, 1) is ReserveCode.ACCEPTED
    one.pass_time(5)
    second, third = one.visit(("ask", 2), ("ask", 3)).visitors
    assert [(each.code, each.ahead, each.eta_ms) for each in (second, third)] == [
        (VisitCode.WAITING, 0, -1),
        (VisitCode.WAITING, 1, -1),
    ], "nobody knows when"
    assert one.join(4)[0].code is VisitCode.WAITING
    give_back(one, 1)
    assert one.ask(3).code is VisitCode.WAITING
    assert one.ask(2).code is VisitCode.ADMITTED
    assert one.ask(3).code is VisitCode.WAITING, "one unit, one pass"
    assert (claim(one, 2), claim(one, 3)) == (ReserveCode.ACCEPTED, ReserveCode.SOLD_OUT)


def test_a_queue_ends_when_no_unit_can_come_back(room: MakeRoom) -> None:
    one = room(units=1, may_return=True)
    one.join(1, 2)
    claim(one, 1)
    one.rules = replace(one.rules, may_return=False)
    assert one.ask(2).code is VisitCode.SOLD_OUT
    assert one.join(3)[0].code is VisitCode.SOLD_OUT


def test_a_queue_that_does_not_know_of_holds_sends_people_away_too_early(room: MakeRoom) -> None:
    one = room(
        ("local is_sold_out = is_open and stock < 1 and not may_return", "local is_sold_out = is_open and stock < 1"),
        units=1,
        may_return=True,
    )
    one.join(1, 2)
    claim(one, 1)
    assert one.ask(2).code is VisitCode.SOLD_OUT
