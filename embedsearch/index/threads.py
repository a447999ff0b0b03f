"""Compiled loops on several threads: FAISS's number of threads is everybody's."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise


def n_threads() -> int:
    """How many threads search and building use; `faiss.omp_set_num_threads` and OMP_NUM_THREADS change it."""
    import faiss

    return int(faiss.omp_get_max_threads())


def in_slices(work: Callable[[int, int], None], n: int, *, slices_per_thread: int = 1) -> None:
    """Calls work(first, last) for slices of range(n), on all threads; few are done at once, by the caller."""
    threads = n_threads()
    if threads == 1 or n < 2 * threads:
        work(0, n)
        return
    n_slices = min(threads * slices_per_thread, n)
    cuts = [n * i // n_slices for i in range(n_slices + 1)]
    waiting = [_pool(threads).submit(work, first, last) for first, last in pairwise(cuts[1:])]
    work(cuts[0], cuts[1])
    for future in waiting:
        future.result()


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
