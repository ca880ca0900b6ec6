"""How commands speak of errors, in one line; and how they read numbers."""

from argparse import ArgumentTypeError


def first_line(error: Exception) -> str:
    """The first line of what the error says, its kind where it says nothing: the rest is a driver's advice."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def positive(text: str) -> int:
    """A whole number of 1 or more, as an option."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)
