"""Runs a build that kills itself at a named place: python killed_build.py PLACE LOG SOURCE OUT [WHITEN].

Every extracted id is written to LOG first, so that a test can count what was extracted twice.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from embedsearch.engine.building import build_with_report
from embedsearch.index.faiss_index import FaissIndex
from embedsearch.pipeline import commit, extract
from embedsearch.postprocess import Projection
from embedsearch.store import StoreWriter
from embedsearch.types import Modality

SHARD = 6
OPTIONS = {"weights": "packaged", "size": 64, "batch_size": 4, "precision": "float32"}
PLACES = (
    "before the first shard",
    "before the first commit",
    "after the first commit",
    "before the second commit",
    "after the second commit",
    "before compaction",
    "after compaction",
    "in the middle of the index file",
    "before the manifest is written",
    "before the manifest is renamed",
    "after the manifest is renamed",
)
PLACES_OF_FITTING = ("after the projection is saved", "in the middle of projecting", "after projecting")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: object, name: str, call: int = 1) -> None:
    """Kills at the call-th call of owner.name, before it does anything."""
    _around(owner, name, call, first=True)


def after(owner: object, name: str, call: int = 1) -> None:
    _around(owner, name, call, first=False)


def _around(owner: object, name: str, call: int, *, first: bool) -> None:
    real, calls = getattr(owner, name), [0]

    def wrapped(*args: object, **kwargs: object) -> object:
        calls[0] += 1
        if first and calls[0] == call:
            die()
        result = real(*args, **kwargs)
        if not first and calls[0] == call:
            die()
        return result

    setattr(owner, name, wrapped)


def half_an_index(self: FaissIndex, path: Path) -> None:
    path.write_bytes(b"IxFI" + b"\0" * 1000)
    die()


def arm(place: str) -> None:
    match place:
        case "before the first shard":
            before(extract.Worker, "__call__")
        case "before the first commit":
            before(StoreWriter, "write")
        case "after the first commit":
            after(StoreWriter, "write")
        case "before the second commit":
            before(StoreWriter, "write", 2)
        case "after the second commit":
            after(StoreWriter, "write", 2)
        case "before compaction":
            before(StoreWriter, "compact")
        case "after compaction":
            after(StoreWriter, "compact")
        case "in the middle of the index file":
            FaissIndex.save = half_an_index  # type: ignore[method-assign]
        case "before the manifest is written":
            before(commit, "write_manifest")
        case "before the manifest is renamed":
            real = Path.replace
            Path.replace = lambda path, to: die() if to.name == "manifest.json" else real(path, to)  # type: ignore
        case "after the manifest is renamed":
            before(commit, "tidy")
        case "after the projection is saved":
            after(Projection, "save")
        case "in the middle of projecting":
            # four shards are extracted, then the rewrite writes an empty table and its first batch
            before(StoreWriter, "write", 4 + 2)
        case "after projecting":
            after(StoreWriter, "rewrite")
        case "after a replacement":
            after(StoreWriter, "replace")
        case "after a deletion":
            after(StoreWriter, "delete")
        case _:
            raise ValueError(place)


def log_extraction(log: Path) -> Callable[[extract.Worker, object], object]:
    """What extracts a shard, and writes the ids to the log before it does."""
    real = extract.Worker.__call__

    def logged(self: extract.Worker, task: object) -> object:
        with log.open("a") as stream:
            stream.writelines(item.id + "\n" for item in task.items)  # type: ignore[attr-defined]
            stream.flush()
        return real(self, task)  # type: ignore[arg-type]

    return logged


def main(place: str, log: str, source: str, out: str, whiten: str = "") -> None:
    extract.SHARD_SIZES[Modality.IMAGE] = SHARD
    extract.Worker.__call__ = log_extraction(Path(log))  # type: ignore[method-assign, assignment]
    arm(place)
    build_with_report(source, out, **OPTIONS, **({"whiten": int(whiten)} if whiten else {}))


if __name__ == "__main__":
    main(*sys.argv[1:])
