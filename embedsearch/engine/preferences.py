"""From what a caller says people like to histories over a catalogue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Number
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedsearch.engine.asking import as_queries
from embedsearch.engine.index import Index
from embedsearch.errors import UsageError
from embedsearch.pipeline.recommend.answer import People
from embedsearch.pipeline.recommend.catalogue import Catalogue
from embedsearch.recommend.histories import Histories
from embedsearch.types import Metric, Modality
from embedsearch.vectors import Matrix, finite_rows

Items: TypeAlias = NDArray[np.int64]
History: TypeAlias = "Sequence[Any] | Mapping[str, float]"


class Reader:
    """Reads inputs for one recommender: ids become numbers, and what no index holds becomes vectors."""

    def __init__(self, catalogue: Catalogue, indexes: Sequence[Index]) -> None:
        self._catalogue = catalogue
        self._indexes = indexes

    def people(
        self,
        liked: Sequence[Sequence[Any]],
        weights: Sequence[NDArray[np.float64]],
        exclude: Sequence[Any],
        *,
        exclude_liked: bool,
    ) -> People:
        """People by lists of what they know and the weight of each. exclude: ids that nobody is to be told of."""
        flat = [item for items in liked for item in items]
        numbers, extra = self._numbers(flat)
        starts = np.zeros(len(liked) + 1, np.int64)
        np.cumsum([len(items) for items in liked], out=starts[1:])
        histories = Histories(starts, numbers, np.concatenate(weights) if len(weights) else np.empty(0))
        people = self._known(histories, extra, exclude, exclude_liked)
        unsure = {
            int(user): f"{flat[place]!r} is no id, and was read as a text"
            for user, place in zip(histories.users, range(len(flat)), strict=True)
            if numbers[place] >= len(self._catalogue) and _is_like_an_id(flat[place])
        }
        return replace(people, notes=unsure)

    def people_of_matrix(
        self, matrix: Any, items: Sequence[Any] | None, exclude: Sequence[Any], *, exclude_liked: bool
    ) -> People:
        """People by the rows of a sparse matrix. items: the ids of its columns, or None where they are the index's."""
        rows = matrix.tocsr()
        n_columns = int(rows.shape[1])
        if items is None and n_columns != len(self._catalogue):
            raise UsageError(
                f"user_items has {n_columns:,} columns, the index {len(self._catalogue):,} items; "
                "give items=, the id of each column"
            )
        numbers = np.asarray(rows.indices, np.int64)
        if items is not None:
            ids = [as_id(item) for item in items]
            if len(ids) != n_columns:
                raise UsageError(f"user_items has {n_columns:,} columns, items names {len(ids):,}")
            if len(set(ids)) < n_columns:
                twice = next(item for item, count in Counter(ids).items() if count > 1)
                raise UsageError(f"items names {twice!r} twice; each column is another item")
            used = np.unique(numbers)
            place = np.full(n_columns, -1, np.int64)
            place[used] = self._catalogue.numbers([ids[column] for column in used.tolist()])
            numbers = place[numbers]
        data = np.asarray(rows.data, np.float64)
        require_weights(data, "user_items")
        histories = Histories(np.asarray(rows.indptr, np.int64), numbers, data)
        return self._known(histories, self._nothing_extra(), exclude, exclude_liked)

    def _known(self, histories: Histories, extra: list[Matrix], exclude: Sequence[Any], exclude_liked: bool) -> People:
        n = max(len(self._catalogue), 1)
        told = (histories.items < n) & (exclude_liked | (histories.weights <= 0))
        keys = histories.users[told] * n + histories.items[told]
        if len(exclude):
            out = self._catalogue.numbers([as_id(item) for item in exclude])
            keys = np.concatenate([keys, (np.arange(len(histories))[:, None] * n + out).ravel()])
        return People(histories.summed(n).relative, extra, np.unique(keys))

    def _numbers(self, inputs: Sequence[Any]) -> tuple[Items, list[Matrix]]:
        """The number of each input: of the item, or from len(catalogue) on of a row of the vectors of each index."""
        numbers = np.full(len(inputs), -1, np.int64)
        named = [place for place, item in enumerate(inputs) if is_name(item)]
        names = [as_id(inputs[place]) for place in named]
        numbers[named] = self._catalogue.find(names) if names else -1
        for place, name in zip(named, names, strict=True):
            if numbers[place] < 0 and not self._may_be_content(inputs[place]):
                raise self._catalogue.not_there(name)
        cold = np.flatnonzero(numbers < 0)
        if not len(cold):
            return numbers, self._nothing_extra()
        extra = self._encoded([inputs[place] for place in cold.tolist()])
        numbers[cold] = len(self._catalogue) + np.arange(len(cold))
        return numbers, extra

    def _nothing_extra(self) -> list[Matrix]:
        return [np.empty((0, part.searcher.store.dim), np.float32) for part in self._catalogue.parts]

    def _may_be_content(self, name: Any) -> bool:
        """Whether what is no id may be a text or a picture: a number is neither, and a picture is there."""
        return isinstance(name, str | Path) and any(_reads(index, name) for index in self._indexes)

    def _encoded(self, inputs: list[Any]) -> list[Matrix]:
        """Vectors of inputs in each index, NaN where it cannot read one."""
        found = []
        for index, part in zip(self._indexes, self._catalogue.parts, strict=True):
            x = np.full((len(inputs), part.searcher.store.dim), np.nan, np.float32)
            readable = [place for place, item in enumerate(inputs) if _reads(index, item)]
            vectors = [place for place in readable if _is_vector(inputs[place])]
            content = [place for place in readable if not _is_vector(inputs[place])]
            if vectors:
                rows = as_queries(part.searcher, np.stack([np.asarray(inputs[place], np.float32) for place in vectors]))
                if not finite_rows(rows).all():
                    raise UsageError("a liked vector holds NaN or infinity")
                if part.metric is Metric.COSINE and not rows.any(axis=1).all():
                    raise UsageError("a liked vector holds only zeros; it has no direction to compare by cosine")
                x[vectors] = rows
            if content:
                x[content] = index.encoder.encode([inputs[place] for place in content])
            found.append(x)
        nowhere = np.logical_and.reduce([np.isnan(x).all(axis=1) for x in found])
        if nowhere.any():
            item = inputs[int(np.argmax(nowhere))]
            told = f"an array of shape {np.shape(item)}" if hasattr(item, "shape") else repr(item)[:80]
            holds = " or ".join(f"{index.modality.value}s of {index.dim} dimensions" for index in self._indexes)
            raise UsageError(f"{told} is neither an id nor something that can be encoded; the index holds {holds}")
        return found


def _reads(index: Index, item: Any) -> bool:
    """Whether an index can make a vector of an input."""
    if _is_vector(item):
        return len(item) in (index.dim, index.source_dim)
    if isinstance(item, str | Path):
        if index.modality is Modality.TEXT:
            return isinstance(item, str) and any(sign.isalpha() for sign in item)
        return index.modality is Modality.IMAGE and ("://" in str(item) or Path(item).exists())
    if index.modality is Modality.IMAGE:
        return hasattr(item, "convert") or (hasattr(item, "shape") and len(item.shape) in (2, 3))
    return index.modality is Modality.TENSOR and hasattr(item, "shape")


def _is_like_an_id(item: Any) -> bool:
    """Whether a text is one word with a digit, as ids are that were mistyped."""
    return (
        isinstance(item, str)
        and not any(sign.isspace() for sign in item)
        and any(sign.isdigit() for sign in item)
        and not ("://" in item or Path(item).exists())
    )


def _is_vector(item: Any) -> bool:
    if isinstance(item, list | tuple):
        return len(item) > 0 and all(isinstance(value, Number) for value in item)
    return hasattr(item, "shape") and len(item.shape) == 1


def is_name(item: Any) -> bool:
    """Whether an input may be an id."""
    return isinstance(item, str | Path | int | np.integer) and not isinstance(item, bool)


def as_id(item: Any) -> str:
    """An id as the store keeps it. Raises UsageError for what cannot be one."""
    if not is_name(item):
        raise UsageError(f"{item!r} is no id; ids are strings")
    return str(item)


def require_weights(weights: NDArray[np.float64], what: str) -> None:
    """Raises UsageError for NaN or infinity."""
    if not np.isfinite(weights).all():
        bad = int(np.argmin(np.isfinite(weights)))
        raise UsageError(f"{what} hold {weights[bad]} at {bad}; a weight is a finite number")
