"""One writer at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from embedsearch.artifact.layout import Layout
from embedsearch.errors import LockedError


@contextmanager
def write_lock(root: Path) -> Iterator[None]:
    """Holds the writer's lock of an index folder; the system frees it when its holder dies.

    Raises LockedError at once when another process holds it.
    """
    lock = FileLock(Layout(root).lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LockedError(f"{root} is being written by another process; wait until it has finished") from None
    try:
        yield
    finally:
        lock.release()
