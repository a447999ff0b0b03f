"""Tasks on several threads at once, their results in the order of the tasks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class ThreadExecutor:
    """One worker for as many threads, which has to be safe to call from all of them.

    over: is called when no more results are wanted, so that tasks that have begun can end early.
    """

    def __init__(self, n_threads: int, over: Callable[[], None] = lambda: None) -> None:
        self._n_threads = n_threads
        self._over = over

    def map(self, make_worker: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]) -> Iterator[Result]:
        """Results in the order of the tasks.

        `tasks` is drawn from in the thread that asks for results, no more than the threads can be busy with. When a
        task raises, or nobody asks any more, those that wait are never begun; those that have begun are waited for.
        """
        worker = make_worker()
        waiting: deque[Future[Result]] = deque()
        with ThreadPoolExecutor(self._n_threads, "embedsearch-worker") as pool:
            try:
                for task in tasks:
                    waiting.append(pool.submit(worker, task))
                    if len(waiting) == self._n_threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                self._over()
                for future in waiting:
                    future.cancel()
