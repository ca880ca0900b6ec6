"""Coupon codes are long enough, readable, and unlike each other."""

import math
import re

from coupons.codes import ALPHABET, GROUP_LENGTH, GROUPS, new_code
from coupons.models import Coupon


def test_a_code_has_eighty_bits() -> None:
    assert GROUPS * GROUP_LENGTH * math.log2(len(set(ALPHABET))) >= 80


def test_a_code_is_grouped_and_has_no_signs_that_look_alike() -> None:
    assert not set(ALPHABET) & set("0O1I")
    assert ALPHABET.isupper()
    assert re.fullmatch(r"[2-9A-HJ-NP-Z]{4}(-[2-9A-HJ-NP-Z]{4}){3}", new_code())


def test_a_code_fits_into_its_column() -> None:
    assert len(new_code()) <= (Coupon._meta.get_field("code").max_length or 0)


def test_codes_differ_and_use_the_whole_alphabet() -> None:
    codes = {new_code() for _ in range(2000)}
    assert len(codes) == 2000
    assert set("".join(codes)) == {*ALPHABET, "-"}
