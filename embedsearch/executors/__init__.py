"""Where tasks run."""

from embedsearch.executors.local import Executor, LocalExecutor, n_cores
from embedsearch.executors.processes import ProcessExecutor
from embedsearch.executors.threads import ThreadExecutor

__all__ = ["Executor", "LocalExecutor", "ProcessExecutor", "ThreadExecutor", "n_cores"]
