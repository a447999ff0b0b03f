"""Tasks one after another in this process, the reference that other executors must equal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class Executor(Protocol):
    """What runs tasks."""

    def map(self, make_worker: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]) -> Iterator[Result]:
        """Results in the order of the tasks, which are drawn only as results are asked for."""
        ...


class LocalExecutor:
    """Makes one worker and gives it every task in order."""

    def map(self, make_worker: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]) -> Iterator[Result]:
        """Results in the order of the tasks, which are drawn only as results are asked for."""
        worker = None
        for task in tasks:
            worker = worker or make_worker()
            yield worker(task)


def n_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
