"""Changes an index and kills itself at a named place: python killed_change.py PLACE ACTION OUT [SOURCE]."""

from __future__ import annotations

import sys
from pathlib import Path

import killed_build
import numpy as np
from killed_build import after, before, die, half_an_index

import embedsearch as es
from embedsearch.index.faiss_index import FaissIndex
from embedsearch.index.graph.index import GraphIndex
from embedsearch.index.ivf.index import IVFIndex
from embedsearch.pipeline import extract
from embedsearch.pipeline.change import commit
from embedsearch.pipeline.change.staging import Staging
from embedsearch.store import StoreWriter
from embedsearch.types import Modality

SHARD = 3
PLACES_OF_STAGING = (
    "before the first shard",
    "after the first shard",
    "before the third shard",
    "before anything is merged",
    "before the staged rows are thrown away",
)
PLACES_OF_ADD = (
    "after new columns",
    "after new rows",
    "after rows were updated",
    "before rows are deleted",
    "after rows were deleted",
    "before the manifest is written",
    "before the manifest is renamed",
    "after the manifest is renamed",
)
PLACES_OF_DELETE = ("after rows were deleted", "before the manifest is renamed", "after the manifest is renamed")
PLACES_OF_OPTIMIZE = (
    "before compaction",
    "after compaction",
    "in the middle of the index file",
    "before the manifest is renamed",
    "after the manifest is renamed",
    "before versions are forgotten",
)


def arm(place: str) -> None:
    match place:
        case "before the first shard":
            before(extract.Worker, "__call__")
        case "after the first shard":
            after(Staging, "append")
        case "before the third shard":
            before(extract.Worker, "__call__", 3)
        case "before anything is merged":
            before(StoreWriter, "append_all")
        case "before the staged rows are thrown away":
            before(Staging, "discard")
        case "after new columns":
            after(StoreWriter, "add_columns")
        case "after new rows":
            after(StoreWriter, "append_all")
        case "after rows were updated":
            after(StoreWriter, "update")
        case "before rows are deleted":
            before(StoreWriter, "delete_rows")
        case "after rows were deleted":
            after(StoreWriter, "delete_rows")
        case "before the manifest is written":
            before(commit, "write_manifest")
        case "after the manifest is renamed":
            real = Path.replace

            def rename(path: Path, to: Path) -> Path:
                result = real(path, to)
                if to.name == "manifest.json":
                    die()
                return result

            Path.replace = rename  # type: ignore[method-assign, assignment]
        case "in the middle of the index file":
            for family in (FaissIndex, GraphIndex, IVFIndex):
                family.save = half_an_index  # type: ignore[method-assign, assignment]
        case "before versions are forgotten":
            before(StoreWriter, "forget_versions")
        case _:
            killed_build.arm(place)


def change(action: str, out: str, source: str = "") -> None:
    index = es.open(out)
    if action == "add":
        extract.SHARD_SIZES[Modality.IMAGE] = SHARD
        index.add(source)
    elif action == "add vectors":
        add_vectors(index, Path(source))
    elif action == "delete":
        index.delete(["3", "5"], where="n >= 90")
    else:
        index.optimize()


def add_vectors(index: es.Index, source: Path) -> object:
    """Ids, rows and two columns in an .npz."""
    with np.load(source) as data:
        return index.add(
            data["x"], ids=data["ids"].tolist(), metadata={"n": data["n"].tolist(), "new": data["new"].tolist()}
        )


if __name__ == "__main__":
    arm(sys.argv[1])
    change(*sys.argv[2:])
