"""Builds indexes in processes of their own, and times all libraries side by side."""

from __future__ import annotations

import ctypes
import json
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
from curves import Point, recall
from data import CACHE
from libraries import THREADS, Library
from ours import Ours, OursIndexOnly
from search_sets import SearchSet, load_set, run_apart
from xxhash import xxh3_64_hexdigest

ENOUGH = 0.999  # a sweep ends with the first point this high
LATENCY_RECALL = 0.95
CHUNKS, CHUNK = 4, 250  # of single queries in a round
N_WARM = 2000
_RECORD = "build.json"
# a batch that takes some milliseconds says more about what ran before it
LEAST_SECONDS, MOST_REPEATS = 0.1, 10


@dataclass(frozen=True)
class Build:
    """seconds, on the day `built`. disk_bytes, memory_bytes: of a vector; memory is None where /proc is not."""

    seconds: float
    built: str
    now: bool
    disk_bytes: float
    memory_bytes: float | None


@dataclass
class Measured:
    """One library on one set. micros: of one query at a time, or None where LATENCY_RECALL is not reached."""

    library: Library
    build: Build
    points: list[Point] = field(default_factory=list)
    micros: float | None = None
    latency_effort: float | None = None


def build_all(
    libraries: Sequence[Library], data: SearchSet, most: int | None, rebuild: bool, builds: int
) -> list[tuple[Path, Build]]:
    """The folder of each library's index of `data`, made now where it must be, and what it took.

    Ours is made anew in every run, as its code changes; an index of a peer is kept, with the day of its build.
    What is made is made `builds` times, in turns, and the median counts.
    """
    folders = [_folder(library, data) for library in libraries]
    now = [
        rebuild or isinstance(library, (Ours, OursIndexOnly)) or not (folder / _RECORD).exists()
        for library, folder in zip(libraries, folders, strict=True)
    ]
    seconds: list[list[float]] = [[] for _ in libraries]
    for _ in range(builds):
        for which in np.flatnonzero(now):
            seconds[which].append(run_apart(_build, type(libraries[which]), data.name, most, folders[which]))
    found = []
    for library, folder, taken in zip(libraries, folders, seconds, strict=True):
        record = folder / _RECORD
        if taken:
            record.write_text(json.dumps({"seconds": statistics.median(taken), "built": date.today().isoformat()}))
        kept = json.loads(record.read_text())
        disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path != record)
        memory = run_apart(_memory, type(library), data.name, most, folder)
        n = len(data.xb)
        found.append((folder, Build(kept["seconds"], kept["built"], bool(taken), disk / n, memory and memory / n)))
    return found


def _folder(library: Library, data: SearchSet) -> Path:
    key = xxh3_64_hexdigest(f"{library.name} {library.version} {library.settings} {THREADS}".encode())[:8]
    n, dim = data.xb.shape
    return CACHE / "ann" / f"{data.name}-{n}x{dim}-{xxh3_64_hexdigest(data.xb)[:8]}" / f"{library.module}-{key}"


def _build(kind: type[Library], name: str, most: int | None, folder: Path) -> float:
    """Seconds from the matrix to the index; writing a peer's to disk is not counted."""
    warnings.simplefilter("ignore")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data = load_set(name, most)
    _warm(kind, data)
    library = kind()
    start = time.perf_counter()
    library.build(data.xb, folder)
    seconds = time.perf_counter() - start
    library.save(folder)
    return seconds


def _warm(kind: type[Library], data: SearchSet) -> None:
    """Makes and asks a small index, so that imports, threads and compiled code are there."""
    library = kind()
    with tempfile.TemporaryDirectory() as scratch:
        small = data.xb[:N_WARM]
        library.build(small, Path(scratch))
        library.save(Path(scratch))
        library = kind()
        library.load(Path(scratch), *small.shape)
        library.search(data.xq, library.efforts[0])


def _memory(kind: type[Library], name: str, most: int | None, folder: Path) -> int | None:
    """By how many bytes a process grows that loads the index and answers all queries.

    The process holds one copy that did the same before: what a library takes once, whatever the index, is not
    a matter of the vectors.
    """
    warnings.simplefilter("ignore")
    data = load_set(name, most)
    xq, shape = data.xq, data.xb.shape
    del data
    sizes, kept = [], []
    for _ in range(2):
        sizes.append(_resident())
        library = kind()
        library.load(folder, *shape)
        library.search(xq, library.efforts[len(library.efforts) // 2])
        kept.append(library)
    before, after = sizes[-1], _resident()
    return None if before is None or after is None else after - before


def _resident() -> int | None:
    """Bytes of the process in memory, huge pages included, what the allocator has free given back."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return sum(int(lines[key].split()[0]) * 1024 for key in ("VmRSS", "HugetlbPages") if key in lines)


def measure(
    libraries: Sequence[Library],
    data: SearchSet,
    *,
    rounds: int,
    most: int | None = None,
    rebuild: bool = False,
    builds: int = 1,
    every: int = 1,
    say: Callable[[str], None] = print,
) -> list[Measured]:
    """All libraries on one set: every point of every library once in a round, medians over the rounds.

    every: takes each how-manieth effort of the ladders.
    """
    results = []
    made = build_all(libraries, data, most, rebuild, builds)
    for library, (folder, build) in zip(libraries, made, strict=True):
        library.load(folder, *data.xb.shape)
        results.append(Measured(library, build))
        say(f"{data.name}: {library.name} built in {build.seconds:.1f} s{'' if build.now else f' on {build.built}'}")
    for result in results:
        result.points = _recalls(result.library, data, every)
        result.latency_effort = next((p.effort for p in result.points if p.recall >= LATENCY_RECALL), None)
    seconds: dict[tuple[int, float], list[float]] = {}
    micros: dict[int, list[float]] = {}
    for turn in range(rounds):
        # whoever comes first changes, so that none always finds the caches as the same other left them
        order = [(turn + place) % len(results) for place in range(len(results))]
        for step in range(max(len(result.points) for result in results)):
            for which in order:
                result = results[which]
                if step < len(result.points):
                    effort = result.points[step].effort
                    seconds.setdefault((which, effort), []).append(_batch_seconds(result.library, data.xq, effort))
        for which, median in _single_queries([results[i] for i in order], data.xq).items():
            micros.setdefault(order[which], []).append(median)
        say(f"{data.name}: round {turn + 1} of {rounds}")
    for which, result in enumerate(results):
        result.points = [
            Point(p.effort, p.recall, len(data.xq) / statistics.median(seconds[which, p.effort])) for p in result.points
        ]
        result.micros = statistics.median(micros[which]) if which in micros else None
    return results


def _recalls(library: Library, data: SearchSet, every: int) -> list[Point]:
    """The efforts to be timed with their recall, up to the first that finds all but nothing more."""
    library.use_threads(THREADS)
    points: list[Point] = []
    for effort in library.efforts[::every]:
        rows = library.rows(library.search(data.xq, effort))
        points.append(Point(effort, recall(rows, data.scores(rows), data.tenth), float("nan")))
        if points[-1].recall >= ENOUGH:
            break
    return points


def _batch_seconds(library: Library, xq: np.ndarray, effort: float) -> float:
    """Seconds of a batch, the mean of as many as fill LEAST_SECONDS."""
    library.use_threads(THREADS)
    spent, done = 0.0, 0
    while spent < LEAST_SECONDS and done < MOST_REPEATS:
        start = time.perf_counter()
        library.search(xq, effort)
        spent += time.perf_counter() - start
        done += 1
    return spent / done


def _single_queries(results: Sequence[Measured], xq: np.ndarray) -> dict[int, float]:
    """Median microseconds of one query at a time for those that have an effort for it, in turns."""
    taken: dict[int, list[float]] = {}
    for chunk in range(CHUNKS):
        for which, result in enumerate(results):
            if result.latency_effort is None:
                continue
            result.library.use_threads(1)
            for row in range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(xq))):
                one = xq[row : row + 1]
                start = time.perf_counter()
                result.library.search(one, result.latency_effort)
                taken.setdefault(which, []).append(time.perf_counter() - start)
    return {which: statistics.median(times) * 1e6 for which, times in taken.items()}


def as_json(results: Sequence[Measured]) -> list[dict[str, object]]:
    """All figures as plain data."""
    return [
        {
            "library": result.library.name,
            "version": result.library.version,
            "settings": result.library.settings,
            "build": asdict(result.build),
            "points": [asdict(point) for point in result.points],
            "batch_1_micros": result.micros,
            "batch_1_effort": result.latency_effort,
        }
        for result in results
    ]
