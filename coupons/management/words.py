"""How commands speak of errors: in one line."""


def first_line(error: Exception) -> str:
    """The first line of what the error says, its kind where it says nothing: the rest is a driver's advice."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
