"""A bar on the terminal; nothing at all where stderr is not one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from embedsearch.types import NoProgress, Progress

if TYPE_CHECKING:
    from rich.progress import TaskID


class BarProgress:
    """Stages as bars on stderr, with count, rate, time left and what was skipped."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            Task,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        class RateColumn(ProgressColumn):
            def render(self, task: Task) -> Text:
                rate = task.completed / task.elapsed if task.completed and task.elapsed else None
                return Text("" if rate is None else f"{rate:,.1f}/s")

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[skipped]}"),
            console=Console(stderr=True),
            speed_estimate_period=120,
        )
        self._task: TaskID | None = None
        self._n_skipped = 0
        self._bar.start()

    def stage(self, label: str, total: int | None = None) -> None:
        if self._task is not None:
            done = self._bar.tasks[self._task]
            self._bar.update(self._task, total=done.completed)
        self._n_skipped = 0
        self._task = self._bar.add_task(label, total=total, skipped="")

    def advance(self, n_items: int, n_skipped: int = 0) -> None:
        if self._task is not None:
            self._n_skipped += n_skipped
            told = f"{self._n_skipped} skipped" if self._n_skipped else ""
            self._bar.update(self._task, advance=n_items, skipped=told)

    def close(self) -> None:
        self._bar.stop()


def open_progress() -> Progress:
    """A bar where a person is watching, else silence."""
    return BarProgress() if sys.stderr.isatty() else NoProgress()
