"""What an extraction spends its time on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

READING, NETWORK, STORING = "reading", "network", "storing"
STAGES = (READING, NETWORK, STORING)


@dataclass(frozen=True, slots=True)
class Timing:
    """seconds: from the first input to the last row. shares: of the work of all threads, by stage; they sum to 1.
    busy: how much of that time the threads of a stage were at it. limit: the stage that was busy most."""

    seconds: float
    shares: dict[str, float]
    busy: dict[str, float]
    limit: str


class Clock:
    """Adds up what each stage takes in all threads.

    reading: files, decoding, resizing, tokenising. network: passes and pooling. storing: writing rows.
    """

    def __init__(self, n_threads: dict[str, int]) -> None:
        """n_threads: how many may be in a stage at once; one where it is not named."""
        self._n_threads = n_threads
        self._lock = threading.Lock()
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._start = time.perf_counter()

    def restart(self) -> None:
        """Counts from now on."""
        with self._lock:
            self._seconds = dict.fromkeys(STAGES, 0.0)
            self._start = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What runs inside counts for the stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """Seconds that somebody else has counted."""
        with self._lock:
            self._seconds[name] += seconds

    def taken(self) -> dict[str, float]:
        """Seconds by stage since the last call of this, for another clock to add."""
        with self._lock:
            seconds, self._seconds = self._seconds, dict.fromkeys(STAGES, 0.0)
        return seconds

    def timing(self) -> Timing | None:
        """Of what was done since `restart`; None where nothing was."""
        seconds, work = time.perf_counter() - self._start, sum(self._seconds.values())
        if work == 0:
            return None
        busy = {name: spent / (seconds * self._n_threads.get(name, 1)) for name, spent in self._seconds.items()}
        shares = {name: spent / work for name, spent in self._seconds.items()}
        return Timing(seconds, shares, busy, max(busy, key=lambda name: busy[name]))
