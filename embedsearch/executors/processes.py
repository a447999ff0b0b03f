"""Tasks in several processes at once, their results in the order of the tasks."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_worker: Any = None  # of this process, made once


class ProcessExecutor(Generic[Task, Result]):
    """One process for each of `makers`, which makes its worker there and gives it task after task.

    Processes are spawned, not forked, so makers, tasks and results must be picklable. Each process takes every
    len(makers)-th task, so that it is known where a task ran.
    """

    def __init__(self, makers: Sequence[Callable[[], Callable[[Task], Result]]]) -> None:
        self._makers = makers

    def map(self, tasks: Iterable[Task]) -> Iterator[Result]:
        """Results in the order of the tasks, of which two for each process are drawn ahead of what is asked for."""
        context = multiprocessing.get_context("spawn")
        pools = [ProcessPoolExecutor(1, context, _make, (maker,)) for maker in self._makers]
        waiting: deque[Future[Result]] = deque()
        try:
            for number, task in enumerate(tasks):
                waiting.append(pools[number % len(pools)].submit(_run, task))
                if len(waiting) == 2 * len(pools):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for pool in pools:
                pool.shutdown(cancel_futures=True)


def _make(maker: Callable[[], Any]) -> None:
    global _worker
    _worker = maker()


def _run(task: Any) -> Any:
    return _worker(task)
