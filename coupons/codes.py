"""Coupon codes: what a customer reads aloud and a merchant types in."""

import secrets

# 32 signs, 5 bits each, without 0 and O, 1 and I.
ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
GROUPS, GROUP_LENGTH = 4, 4


def new_code() -> str:
    """An unguessable code of 80 bits from the system's generator, such as `7KQM-X2PD-94TB-ZWHA`."""
    # One call for all signs: a drain writes a thousand codes at once. 256 is a multiple of 32, so all are as likely.
    signs = [ALPHABET[byte % len(ALPHABET)] for byte in secrets.token_bytes(GROUPS * GROUP_LENGTH)]
    return "-".join("".join(signs[start : start + GROUP_LENGTH]) for start in range(0, len(signs), GROUP_LENGTH))
