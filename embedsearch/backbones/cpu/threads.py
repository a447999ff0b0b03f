"""On which threads forward passes run."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch


def passes_apart(n_passes: int, threads_each: int = 1) -> ThreadPoolExecutor:
    """A pool of threads, each of which computes passes of its own and shares none with another.

    They are as fast as all threads on one pass after another, and much faster on a machine that others use too: threads
    that compute one pass together wait for each other after every layer, and for the one that was held up.

    threads_each: that compute one pass, for a pass that is alone.
    """
    before = torch.get_num_threads()
    begun = threading.Barrier(n_passes + 1)
    pool = ThreadPoolExecutor(n_passes, "embedsearch-pass", initializer=partial(_compute_with, threads_each))
    for _ in range(n_passes):
        pool.submit(begun.wait)
    begun.wait()
    torch.set_num_threads(before)  # torch keeps the last number that was set for threads that begin later
    return pool


def _compute_with(n_threads: int) -> None:
    torch.set_num_threads(n_threads)
    torch.get_num_threads()  # a thread that has not asked yet takes the number of the process when it does
