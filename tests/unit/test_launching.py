"""Starting processes from a terminal, in which Ctrl-C may be typed at any moment."""

import signal

import pytest

from config.launch import _held_back


def start(known: list[str]) -> None:
    """As a process is started, and then written down as one to be ended."""
    signal.raise_signal(signal.SIGINT)
    known.append("started")


def test_ctrl_c_waits_until_what_is_being_started_is_known() -> None:
    known: list[str] = []
    with pytest.raises(KeyboardInterrupt), _held_back():
        start(known)
    assert known
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_holding_it_back_nobody_knows_of_it() -> None:
    known: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        start(known)
    assert not known
