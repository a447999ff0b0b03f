"""Compiled loops on several threads: FAISS's number of threads is everybody's."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

_SLICES_PER_THREAD = 8


def n_threads() -> int:
    """How many threads search and building use; `faiss.omp_set_num_threads` and OMP_NUM_THREADS change it."""
    import faiss

    return int(faiss.omp_get_max_threads())


def in_slices(work: Callable[[int, int], None], n: int, *, least: int = 1, threads: int | None = None) -> None:
    """Calls work(first, last) for slices of range(n), of at least `least` each, on all threads, or so many.

    There are more slices than threads, and each thread takes the next when it is done with one: a thread that the
    machine holds up, or that meets harder work, does not hold up the rest.
    """
    threads = min(threads or n_threads(), n // least)
    if threads <= 1:
        work(0, n)
        return
    n_slices = min(threads * _SLICES_PER_THREAD, n // least)
    numbers = iter(range(n_slices))

    def take() -> None:
        for number in numbers:  # shared by all threads; the interpreter gives each number once
            work(n * number // n_slices, n * (number + 1) // n_slices)

    helpers = [_pool(threads).submit(take) for _ in range(threads - 1)]
    try:
        take()
    finally:
        for helper in helpers:
            helper.result()


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="embedsearch")


def simd_level() -> str:
    """The vector instructions that FAISS found on this processor, such as AVX512."""
    import faiss

    try:
        level = faiss.SIMDConfig.get_level()
        names = {getattr(faiss, name): name for name in dir(faiss) if name.startswith("SIMDLevel_")}
        return names[level].removeprefix("SIMDLevel_")
    except (AttributeError, KeyError, TypeError):  # before FAISS 1.14
        return str(faiss.get_compile_options()).strip()
