"""The order that a shuffle puts the early ones into, as anybody computes it from what is public.

Who joined before the opening ranks by a hash of the seed and their number; `visit.lua` does the same. The seed was
drawn before anybody joined, and its SHA-256 is published from then on: it could not be chosen by who had come.
"""

from hashlib import sha1, sha256

DIGITS = 13  # of the hash, in hex: 52 bits, which a sorted set of Redis keeps exactly


def rank(seed: str, number: int) -> int:
    """Where a number stands: the lowest is first."""
    digest = sha1(f"{seed}:{number}".encode(), usedforsecurity=False).hexdigest()
    return int(digest[:DIGITS], 16)


def order(seed: str, early: int) -> list[int]:
    """The numbers 1 to `early` as they are let in."""
    return sorted(range(1, early + 1), key=lambda number: rank(seed, number))


def seed_hash(seed: str) -> str:
    """What is published of a seed before the opening: its SHA-256, in hex."""
    return sha256(seed.encode()).hexdigest()
