"""Coupon codes: what a customer reads aloud and a merchant types in."""

import secrets

# 32 signs, 5 bits each, without 0 and O, 1 and I.
ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
GROUPS, GROUP_LENGTH = 4, 4


def new_code() -> str:
    """An unguessable code of 80 bits from the system's generator, such as `7KQM-X2PD-94TB-ZWHA`."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(GROUP_LENGTH)) for _ in range(GROUPS))
