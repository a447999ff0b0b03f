"""One writer at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from embedsearch.artifact.layout import Layout
from embedsearch.errors import LockedError

_LOOKED_AT_S = 0.1  # for `is_being_written` holds it as well, for less


def is_being_written(root: Path) -> bool:
    """Whether a process holds the writer's lock now. False as well where the system cannot tell without taking it."""
    try:
        import fcntl

        with Layout(root).lock.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return False
    return False


@contextmanager
def write_lock(root: Path) -> Iterator[None]:
    """Holds the writer's lock of an index folder; the system frees it when its holder dies.

    Raises LockedError when another process holds it.
    """
    lock = FileLock(Layout(root).lock)
    try:
        lock.acquire(timeout=_LOOKED_AT_S, poll_interval=_LOOKED_AT_S / 4)
    except Timeout:
        raise LockedError(f"{root} is being written by another process; wait until it has finished") from None
    try:
        yield
    finally:
        lock.release()
