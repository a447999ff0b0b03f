"""Pooled vectors of a sample on disk: a file a shard, so that a pass goes on after a kill and memory holds a cell."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.artifact import write_atomically, write_lock
from embedsearch.errors import SourceError, UsageError
from embedsearch.pipeline.encode import Encoder
from embedsearch.pipeline.tune.candidates import Cell
from embedsearch.pipeline.tune.tapped import TappedNetwork
from embedsearch.types import Item, Progress
from embedsearch.vectors import Matrix, finite_rows

SHARD = 64
_KEY = "key.json"
_FORMAT = 1

Contents = Callable[[Sequence[Item], str], list[Any]]  # of a view, by its name


@dataclass(slots=True)
class Pooled:
    """Vectors of the items that could be read in every view.

    cells: with their dimensions. kept: int64, places of those items in the sample. reasons: why others were left out,
    by id. n_resumed: shards that were there already.
    """

    cells: dict[Cell, int]
    kept: NDArray[np.int64]
    reasons: dict[str, str]
    n_resumed: int
    _files: list[list[Path]]  # of each view

    def vectors(self, cell: Cell, view: int = 0) -> Matrix:
        """float32 len(kept) x D, L2-normalised, of one layer and pooling."""
        from safetensors import safe_open

        name, parts, rows = _name(cell), [], []
        for file in self._files[view]:
            with safe_open(file, "np") as tensors:
                if name in tensors.keys():  # noqa: SIM118 - it is no mapping
                    parts.append(tensors.get_tensor(name))
                    rows.append(tensors.get_tensor("rows"))
        places = np.concatenate(rows)
        return np.concatenate(parts)[np.isin(places, self.kept)]

    def repeats(self, first: str) -> dict[str, str]:
        """Layers that give just what another one gives, as the last block of a network and its output do, with that
        one: `first`, or that which comes before."""
        of = {layer: [cell for cell in self.cells if cell.layer == layer] for layer in {c.layer: 0 for c in self.cells}}
        found: dict[str, str] = {}
        kept = list[str]()
        for layer in sorted(of, key=lambda name: name != first):  # stable, so the others stay in their order
            same = next((other for other in kept if self._are_same(of[layer], of[other])), None)
            if same is None:
                kept.append(layer)
            else:
                found[layer] = same
        return found

    def _are_same(self, some: Sequence[Cell], others: Sequence[Cell]) -> bool:
        shapes = ([(cell.pooling, self.cells[cell]) for cell in cells] for cells in (some, others))
        return next(shapes) == next(shapes) and all(
            np.array_equal(self.vectors(a), self.vectors(b)) for a, b in zip(some, others, strict=True)
        )


@contextmanager
def work_folder(out: Path, key: dict[str, Any]) -> Iterator[Path]:
    """The folder beside `out` that holds what a pass has made so far; what was made for another key is thrown away.

    It is removed when the block is left well. Raises UsageError where something else lies there, LockedError while
    another process tunes there.
    """
    folder = out.with_name(out.name + ".partial")
    told = json.dumps({"format": _FORMAT, **key}, sort_keys=True).encode()
    if folder.exists() and not (folder.is_dir() and _is_ours(folder)):
        raise UsageError(f"{folder} is in the way: it is no work folder of tune; move it, or give another --out")
    folder.mkdir(parents=True, exist_ok=True)
    with write_lock(folder):
        file = folder / _KEY
        if not file.exists() or file.read_bytes() != told:
            for old in folder.glob("*.safetensors"):
                old.unlink()
            write_atomically(file, told)
        yield folder
    shutil.rmtree(folder)


def _is_ours(folder: Path) -> bool:
    return (folder / _KEY).exists() or all(path.name.endswith((".lock", ".tmp")) for path in folder.iterdir())


def key_of(items: Sequence[Item], encoder: Encoder, poolings: Sequence[str], views: Sequence[str]) -> dict[str, Any]:
    """What decides the arrays of a pass."""
    digest = blake2b(digest_size=16)
    for item in items:
        digest.update(json.dumps([item.id, item.uri, item.fingerprint]).encode())
    return {
        "recipe": encoder.recipe.identity().to_dict(),
        "poolings": list(poolings),
        "views": list(views),
        "items": digest.hexdigest(),
        "shard": SHARD,
    }


def pool_sample(
    items: Sequence[Item],
    encoder: Encoder,
    network: TappedNetwork,
    contents: Contents,
    views: Sequence[str],
    folder: Path,
    progress: Progress,
) -> Pooled:
    """One pass over the items for each view; see `Pooled`. Raises SourceError where nothing can be read."""
    tasks = [(view, start) for view in range(len(views)) for start in range(0, len(items), SHARD)]
    files = {task: folder / f"{task[0]}-{task[1]:08}.safetensors" for task in tasks}
    missing = [task for task in tasks if not files[task].exists()]
    progress.stage("extracting", len(items) * len(views))
    progress.advance(sum(len(items[start : start + SHARD]) for view, start in tasks if files[view, start].exists()))

    def run(task: tuple[int, int]) -> int:
        view, start = task
        some = items[start : start + SHARD]
        found = encoder.through(network, contents(some, views[view]))
        finite = finite_rows(found.vectors)
        reasons = {str(start + at): str(error) for at, error in found.failures}
        reasons |= {str(start + found.kept[at]): "the network gives NaN for it" for at in np.flatnonzero(~finite)}
        rows = np.array(found.kept, np.int64)[finite] + start
        _save(files[task], network.cells, rows, found.vectors[finite], reasons)
        return len(some)

    for n in encoder.executor().map(lambda: run, iter(missing)):
        progress.advance(n)
    found, reasons, in_all = _read(files.values(), items)
    place = {layer: at for at, layer in enumerate(encoder.recipe.layers)}
    cells = dict(sorted(found.items(), key=lambda entry: (place[entry[0].layer], entry[0].pooling)))  # files keep none
    kept = np.flatnonzero(in_all == len(views))
    if not len(kept):
        raise SourceError(
            f"none of the {len(items):,} drawn items can be read, because: {next(iter(reasons.values()))}"
        )
    by_view = [[files[view, start] for view, start in tasks if view == each] for each in range(len(views))]
    return Pooled(cells, kept, reasons, len(tasks) - len(missing), by_view)


def _save(path: Path, cells: dict[Cell, int], rows: NDArray[np.int64], x: Matrix, reasons: dict[str, str]) -> None:
    from safetensors.numpy import save

    edges = np.cumsum([0, *cells.values()])
    arrays: dict[str, Any] = {"rows": rows}
    if len(rows):
        for cell, start, stop in zip(cells, edges[:-1], edges[1:], strict=True):
            arrays[_name(cell)] = np.ascontiguousarray(x[:, start:stop])
    write_atomically(path, save(arrays, metadata={"reasons": json.dumps(reasons)}))


def _read(files: Any, items: Sequence[Item]) -> tuple[dict[Cell, int], dict[str, str], NDArray[np.int64]]:
    """Cells, reasons by id, and in how many views each item could be read."""
    from safetensors import safe_open

    cells: dict[Cell, int] = {}
    reasons: dict[str, str] = {}
    in_all = np.zeros(len(items), np.int64)
    for file in files:
        with safe_open(file, "np") as tensors:
            for at, reason in json.loads(tensors.metadata()["reasons"]).items():
                reasons[items[int(at)].id] = reason
            in_all[tensors.get_tensor("rows")] += 1
            for name in tensors.keys():  # noqa: SIM118
                if name != "rows":
                    cells.setdefault(_cell(name), tensors.get_slice(name).get_shape()[1])
    return cells, reasons, in_all


def _name(cell: Cell) -> str:
    return f"{cell.pooling}:{cell.layer}"


def _cell(name: str) -> Cell:
    pooling, _, layer = name.partition(":")
    return Cell(layer, pooling)
