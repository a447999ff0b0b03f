"""Real sets that tuning is measured on: items, labels, and pooled vectors of all layers that are kept on disk."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from data import ALL_VENDORS, CACHE, SHARED, emoji_folders

import embedsearch as es
from embedsearch.errors import ItemError
from embedsearch.pipeline.tune.candidates import Candidate, Cell, candidate_layers
from embedsearch.pipeline.tune.pooled import Pooled, pool_sample
from embedsearch.pipeline.tune.tapped import TappedNetwork
from embedsearch.pipeline.tune.views import ITSELF, seen
from embedsearch.types import Item, NoProgress

N_ITEMS, N_CODES = 2500, 625  # of a set at most; of emoji, each in four drawings

Labelled = tuple[list[Item], list[str]]


@dataclass(frozen=True, eq=False)
class Set:
    """Items with labels, their vectors at every layer and pooling, and the default of a build."""

    name: str
    about: str
    per_label: int  # items that are labelled of each label
    items: list[Item]
    labels: np.ndarray
    pooled: Pooled
    default: Candidate
    encoder: es.Encoder

    @cache  # noqa: B019 - lives as long as the run
    def vectors(self, cell: Cell) -> np.ndarray:
        return self.pooled.vectors(cell)


@dataclass(frozen=True)
class Some:
    """The pooled arrays of some rows of a set."""

    of: Set
    rows: np.ndarray

    @property
    def cells(self) -> dict[Cell, int]:
        return self.of.pooled.cells

    def vectors(self, cell: Cell, view: int = 0) -> np.ndarray:
        return self.of.vectors(cell)[self.rows]


def groceries() -> Labelled | None:
    folder = SHARED / "grocery"
    if not folder.exists():
        return None
    lines = [
        line.split(",")
        for part in ("test", "val")
        for line in (folder / f"{part}.txt").read_text().splitlines()
        if line
    ]
    return [Item(line[0].strip(), uri=str(folder / line[0].strip())) for line in lines], [line[1] for line in lines]


def banking() -> Labelled | None:
    file = SHARED / "banking77" / "banking_data" / "train.csv"
    if not file.exists():
        return None
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    return [Item(str(n), content=row["text"]) for n, row in enumerate(rows)], [row["category"] for row in rows]


def emoji() -> Labelled:
    folders, names = emoji_folders(ALL_VENDORS)
    drawn = np.sort(np.random.default_rng(0).permutation(len(names))[:N_CODES])
    paths = [(f"{vendor}/{names[at]}", folders[vendor] / names[at]) for at in drawn for vendor in ALL_VENDORS]
    return [Item(item_id, uri=str(path)) for item_id, path in paths], [path.name for _, path in paths]


KNOWN: dict[str, tuple[str, int, Callable[[], Labelled | None], Callable[[], es.Encoder]]] = {
    "emoji": (
        f"drawings of {N_CODES} emoji by four vendors at 96 px, labelled by code",
        4,
        emoji,
        partial(es.Encoder, "vgg16", weights="packaged", pooling="auto", size=96),
    ),
    "groceries": (
        "photos of groceries at 128 px (test and val), labelled by product",
        5,
        groceries,
        partial(es.Encoder, "vgg16", weights="packaged", pooling="auto", size=128),
    ),
    "banking77": ("questions to a bank (train), labelled by intent", 5, banking, partial(es.Encoder, "minilm")),
}


def prepared(name: str) -> Set | None:
    """At most N_ITEMS drawn with a seed, and one pass over them; None where the set is not there."""
    about, per_label, read, make = KNOWN[name]
    found = read()
    if found is None:
        return None
    items, labels = found
    drawn = np.sort(np.random.default_rng(0).permutation(len(items))[:N_ITEMS])
    items = [items[at] for at in drawn]
    encoder = make()
    default = Candidate(encoder.recipe.layers, encoder.recipe.pooling)
    encoder.tap(candidate_layers(encoder.backbone, ()))
    pooled = in_views(name, items, encoder, [ITSELF])
    numbers = np.unique([labels[at] for at in drawn], return_inverse=True)[1]
    return Set(name, about, per_label, items, numbers, pooled, default, encoder)


def in_views(name: str, items: Sequence[Item], encoder: es.Encoder, views: Sequence[str]) -> Pooled:
    """Pooled vectors of items in each of the views, made once."""

    def contents(some: Sequence[Item], view: str) -> list[object]:
        found: list[object] = []
        for item in some:
            try:
                found.append(seen(item.content or item.uri, view, encoder.recipe.modality, item.id))
            except ItemError as error:
                found.append(error)
        return found

    folder = CACHE / "tuning" / f"{name}-{len(items)}"
    folder.mkdir(parents=True, exist_ok=True)
    encoder.settle_precision(contents(items[:16], ITSELF))
    network = encoder.network_of(TappedNetwork, encoder.recipe)
    return pool_sample(items, encoder, network, contents, views, folder, NoProgress())
