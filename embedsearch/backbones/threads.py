"""On which threads forward passes run."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import torch


def passes_apart(n_threads: int) -> ThreadPoolExecutor:
    """A pool of so many threads, each of which computes passes of its own and shares none with another.

    They are as fast as all threads on one pass after another, and much faster on a machine that others use too: threads
    that compute one pass together wait for each other after every layer, and for the one that was held up.
    """
    before = torch.get_num_threads()
    begun = threading.Barrier(n_threads + 1)
    pool = ThreadPoolExecutor(n_threads, "embedsearch-pass", initializer=_compute_alone)
    for _ in range(n_threads):
        pool.submit(begun.wait)
    begun.wait()
    torch.set_num_threads(before)  # torch keeps the last number that was set for threads that begin later
    return pool


def _compute_alone() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # a thread that has not asked yet takes the number of the process when it does
