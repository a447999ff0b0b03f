"""How the loops are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """`function` compiled at its first call, without the interpreter's lock, and kept on disk for the next process.

    options: numba's own (fastmath, error_model). Where nothing can be written (neither beside the sources nor in the
    user's cache, nor in NUMBA_CACHE_DIR) each process compiles anew, which takes some seconds.
    """
    try:
        return njit(nogil=True, cache=True, **options)(function)
    except RuntimeError:  # numba's way to say that it has no place for a cache
        return njit(nogil=True, **options)(function)
