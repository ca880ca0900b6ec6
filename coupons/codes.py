"""Coupon codes: what a customer reads aloud and a merchant types in."""

import secrets

# 32 signs, 5 bits each, without 0 and O, 1 and I.
ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
GROUPS, GROUP_LENGTH = 4, 4
# What each of the 256 bytes stands for. 256 is a multiple of 32, so all signs are as likely.
_SIGNS = (ALPHABET * (256 // len(ALPHABET))).encode()


def new_code() -> str:
    """An unguessable code of 80 bits from the system's generator, such as `7KQM-X2PD-94TB-ZWHA`."""
    signs = secrets.token_bytes(GROUPS * GROUP_LENGTH).translate(_SIGNS).decode()
    return "-".join([signs[start : start + GROUP_LENGTH] for start in range(0, len(signs), GROUP_LENGTH)])
