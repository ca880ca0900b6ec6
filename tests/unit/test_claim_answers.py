"""Answers to claims that one call has accepted: copies of one, and not to be told from it."""

from hypothesis import given
from hypothesis import strategies as st

from coupons import answers
from coupons.models import ClaimId
from coupons.selectors import ClaimView
from coupons.stock.records import instant

ids = st.integers(1, 2**53)


@given(event=ids, epoch=ids, sequences=st.lists(ids, min_size=1, max_size=5), ms=st.integers(0, 4_000_000_000_000))
def test_each_of_a_group_is_told_what_it_would_be_told_alone(
    event: int, epoch: int, sequences: list[int], ms: int
) -> None:
    together = answers.claimed_together(event, epoch, ms)
    for sequence in sequences:
        ours = together(sequence)
        alone = answers.claimed(ClaimView(ClaimId(event, epoch, sequence), "pending", instant(ms)))
        assert (ours.status, ours.body) == (alone.status, alone.body)
        assert sorted(ours.raw_headers()) == sorted(alone.raw_headers())
