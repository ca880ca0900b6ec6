"""The processes that callers come from. Nothing of Django is imported here: a process that begins sets it up itself."""

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor

import django


def started(number: int) -> ProcessPoolExecutor:
    """So many, each with Django set up. They end with this process, however it ends."""
    spawn = multiprocessing.get_context("spawn")  # a fork would share this one's connections
    return ProcessPoolExecutor(number, mp_context=spawn, initializer=_begin)


def _begin() -> None:
    django.setup()
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed leaves its children to themselves: these would go on claiming, and for long."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
