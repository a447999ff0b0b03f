"""Where tasks run."""

from embedsearch.executors.local import LocalExecutor

__all__ = ["LocalExecutor"]
