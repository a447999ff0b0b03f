"""Recommending from an index, or from several over the same ids."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from embedsearch.engine.given import (
    each_history,
    holds_vectors,
    one_history,
    require_history,
    require_ids,
    several,
    whole,
)
from embedsearch.engine.index import Index
from embedsearch.engine.preferences import History, Reader, as_id, is_name
from embedsearch.errors import UsageError, unknown
from embedsearch.pipeline.recommend.answer import People, Wanted, likeness_vectors, recommend
from embedsearch.pipeline.recommend.because import because_of
from embedsearch.pipeline.recommend.catalogue import Catalogue
from embedsearch.pipeline.recommend.part import Part
from embedsearch.pipeline.recommend.saved import save_neighbours
from embedsearch.pipeline.search import Searcher
from embedsearch.recommend.fusion import FUSIONS, Fusion
from embedsearch.recommend.strategies import AUTO, require_strategy
from embedsearch.recommend.tally import Pool
from embedsearch.types import NoProgress, Progress, Recommendations
from embedsearch.vectors import Matrix


class Recommender:
    """Recommends items of one index, or of several over the same ids; safe to use from many threads.

    It answers from the generations that its indexes have open, and follows them when they change. What is near an
    item is searched once and kept in memory.

    Inputs (what is liked or disliked) are ids; or what no index holds: a path, URL, PIL image or H x W x 3 array
    where pictures are indexed, a text where texts are, and in any index a vector (one-dimensional, of its width).
    Scores: the larger the better, in the unit of the strategy; see docs/recommend.md for every formula and its
    source.
    """

    def __init__(
        self, index: Index | Sequence[Index], *, weights: Sequence[float] | None = None, fusion: Fusion = "rank"
    ) -> None:
        """index: one, or several over the same ids, of which each may lack some; `where` and `max_per` then speak of
        the metadata of the first. weights: of each index, above 0. fusion: "rank" or "score".

        Raises UsageError for no index, other numbers of weights, or weights that are not above 0.
        """
        self._indexes = [index] if isinstance(index, Index) else list(index) if isinstance(index, Sequence) else []
        if not self._indexes or not all(isinstance(each, Index) for each in self._indexes):
            raise UsageError("Recommender takes an Index (es.open, es.build), or a list of them")
        self._weights = [1.0] * len(self._indexes) if weights is None else [float(weight) for weight in weights]
        if len(self._weights) != len(self._indexes):
            raise UsageError(f"there are {len(self._weights)} weights for {len(self._indexes)} indexes")
        if not all(math.isfinite(weight) and weight > 0 for weight in self._weights):
            raise UsageError(f"weights are {self._weights}; each must be above 0")
        if fusion not in FUSIONS:
            raise unknown("fusion", fusion, FUSIONS)
        self._fusion: Fusion = fusion
        self._lock = threading.Lock()
        self._catalogue: Catalogue | None = None

    def __repr__(self) -> str:
        return f"<Recommender of {', '.join(map(repr, self._indexes))}>"

    def __len__(self) -> int:
        return len(self._current())

    @property
    def ids(self) -> list[str]:
        """The id of each item, in the order of the columns that `recommend_many` takes for a matrix."""
        catalogue = self._current()
        return [str(item) for item in catalogue.ids_at(np.arange(len(catalogue)))]

    def item_vectors(self, ids: Sequence[str]) -> Matrix:
        """Vectors of items, float32 n x D, whose products are the likenesses that `diversity` looks at: cosines, of
        several indexes their weighted mean."""
        catalogue = self._current()
        return likeness_vectors(catalogue, catalogue.numbers([as_id(item) for item in ids]), self._weights)

    def similar_items(
        self,
        item: Any,
        k: int = 10,
        *,
        exclude: Sequence[str] | None = None,
        where: str | None = None,
        diversity: float = 0.0,
        max_per: Mapping[str, int] | None = None,
    ) -> Recommendations:
        """The k items most like one, itself left out; for a list, one row for each, as one batch.

        item: an id or other input, or a list of ids. Scores are inner products under cosine and ip, 1 / (1 + squared
        distance) under l2, and for several indexes what fusion makes of them. For the rest see `recommend`. Raises
        UnknownNameError for an unknown id.
        """
        if np.ndim(item) == 2 if isinstance(item, np.ndarray) else holds_vectors(item):
            raise UsageError(
                "similar_items takes one vector, or a list of ids; for several vectors take "
                "recommend_many([[vector] for vector in vectors], strategy='max')"
            )
        many = isinstance(item, list | tuple | np.ndarray) and len(item) > 0 and all(is_name(each) for each in item)
        many = many and not (isinstance(item, np.ndarray) and item.dtype.kind in "fiu")
        if isinstance(item, list | tuple) and len(item) == 0:
            raise UsageError("similar_items takes an id, or a list of at least one")
        wanted = self._wanted(k, "max", diversity, max_per, where)
        found = self.recommend_many(
            [[each] for each in item] if many else [[item]],
            wanted.k,
            exclude=exclude,
            where=where,
            diversity=diversity,
            strategy="max",
            max_per=max_per,
        )
        return found if many else _only(found)

    def recommend(
        self,
        liked: History,
        disliked: Sequence[Any] = (),
        weights: Sequence[float] | None = None,
        k: int = 10,
        exclude: Sequence[str] | None = None,
        where: str | None = None,
        diversity: float = 0.0,
        strategy: str | Sequence[str] = AUTO,
        *,
        max_per: Mapping[str, int] | None = None,
        exclude_liked: bool = True,
        because: int = 0,
    ) -> Recommendations:
        """The k best items for one person, best first: ids and scores, arrays of at most k.

        liked: inputs, or a mapping of ids to weights. disliked: inputs that push away and are never answered.
        weights: one for each of liked, not negative, such as ratings or what `interaction_weights` makes of ratings
        and ages; 0 only leaves the item out. exclude: more ids to leave out. where: an SQL condition that answers
        must meet. diversity: 0 (the plain order) to 1, maximal marginal relevance. strategy: centroid, agreement,
        max, clusters, or auto, which chooses by the length of the history. max_per: at most so many answers with the
        same value, as {"brand": 2}. exclude_liked: False lets what is liked be answered again. because: for each
        answer up to so many liked ids that pulled it.

        Fewer than k come back only where no more are left, and `notes` of the answer says so. Raises UsageError for
        nothing liked, an item that is both liked and disliked, weights that cannot be meant, k below 1;
        UnknownNameError for an unknown id, strategy or column; ItemError for an input that cannot be read.
        """
        require_history(liked)
        items, told = one_history(liked, weights)
        hated = list(disliked) if not isinstance(disliked, str) else [disliked]
        if not len(items):
            raise UsageError(
                "liked is empty, so there is nothing to go by; give at least one id, picture, text or vector"
            )
        if not (told > 0).any():
            raise UsageError("all weights are 0, so there is nothing to go by; give at least one above 0")
        both = {str(item) for item in items if is_name(item)} & {str(item) for item in hated if is_name(item)}
        if both:
            raise UsageError(f"{sorted(both)[0]!r} is both liked and disliked")
        told = told / told.max()
        push = np.full(len(hated), -told[told > 0].mean())  # one counts as much as a usual favourite
        wanted = self._wanted(k, strategy, diversity, max_per, where)
        because = whole("because", because, least=0)
        catalogue = self._current()
        people = Reader(catalogue, self._indexes).people(
            [[*items, *hated]], [np.concatenate([told, push])], several(exclude), exclude_liked=exclude_liked
        )
        return _only(self._answered(catalogue, people, wanted, because))

    def recommend_many(
        self,
        user_items: Any,
        k: int = 10,
        *,
        items: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        where: str | None = None,
        diversity: float = 0.0,
        strategy: str | Sequence[str] = AUTO,
        max_per: Mapping[str, int] | None = None,
        exclude_liked: bool = True,
        because: int = 0,
    ) -> Recommendations:
        """The k best items for each of many people, as one batch: ids (str) and scores (float32), both n x min(k,
        items).

        user_items: a scipy sparse matrix, users x items, whose values are weights; or for each user a list of inputs
        or a mapping of ids to weights. A weight above 0 is liked, below 0 disliked, 0 only known. items: the ids of
        the matrix's columns; without it column j is the j-th of `ids`. exclude: ids to leave out for everyone. For
        the rest see `recommend`. A user of whom nothing is liked gets nothing, and a note. The end of a short row is
        None and NaN.
        """
        wanted = self._wanted(k, strategy, diversity, max_per, where)
        catalogue = self._current()
        reader, out = Reader(catalogue, self._indexes), several(exclude)
        because = whole("because", because, least=0)
        if hasattr(user_items, "tocsr"):
            people = reader.people_of_matrix(user_items, items, out, exclude_liked=exclude_liked)
        elif items is not None:
            raise UsageError("items names the columns of a sparse matrix; lists hold the ids themselves")
        else:
            if isinstance(user_items, np.ndarray) and user_items.ndim == 2:
                require_ids(user_items, len(catalogue))
            histories = [one_history(history, None, signed=True) for history in each_history(user_items)]
            people = reader.people(
                [history for history, _ in histories], [told for _, told in histories], out, exclude_liked=exclude_liked
            )
        return self._answered(catalogue, people, wanted, because)

    def save_neighbours(self, progress: Progress | None = None) -> int:
        """Searches what is near every item once, and commits it beside each index; how many lists there are.

        Without it this is searched when it is first needed, in each process anew; the answers are the same. It lasts
        as long as the index file: items that are added or deleted later are taken account of, `optimize` and `build`
        make an index without it. Raises UsageError where an index was changed since it was built, LockedError when
        another process writes it.
        """
        total = 0
        for index in self._indexes:
            total += save_neighbours(index.path, progress or NoProgress())
            index.refresh()
        return total

    def _answered(self, catalogue: Catalogue, people: People, wanted: Wanted, because: int) -> Recommendations:
        pool = recommend(catalogue, people, self._weights, self._fusion, wanted)
        reasons = None
        if because:
            reasons = because_of(catalogue, people, self._weights, wanted, pool, because)
        return Recommendations(
            catalogue.ids_at(pool.rows), pool.scores, _notes(catalogue, people, wanted, pool), reasons
        )

    def _wanted(
        self,
        k: int,
        strategy: str | Sequence[str],
        diversity: float,
        max_per: Mapping[str, int] | None,
        where: str | None,
    ) -> Wanted:
        if not isinstance(diversity, int | float | np.floating) or not 0 <= diversity <= 1:
            raise UsageError(f"diversity is {diversity}; it must be from 0, the plain order, to 1")
        named = [strategy] * len(self._indexes) if isinstance(strategy, str) else list(strategy)
        if len(named) != len(self._indexes):
            raise UsageError(f"there are {len(named)} strategies for {len(self._indexes)} indexes")
        if not isinstance(max_per, Mapping | None):
            raise UsageError(f"max_per is {max_per!r}; give a mapping of columns to numbers, such as {{'brand': 2}}")
        most = {column: whole(f"max_per[{column!r}]", count) for column, count in (max_per or {}).items()}
        return Wanted(whole("k", k), list(map(require_strategy, named)), float(diversity), most, where)

    def _current(self) -> Catalogue:
        """The catalogue of the generations that are open now."""
        with self._lock:
            searchers: list[Searcher] = [index._searcher for index in self._indexes]
            held = [] if self._catalogue is None else self._catalogue.parts
            if [part.searcher for part in held] != searchers or self._catalogue is None:
                kept = {id(part.searcher): part for part in held}
                self._catalogue = Catalogue([kept.get(id(each)) or Part(each) for each in searchers])
            return self._catalogue


def _only(found: Recommendations) -> Recommendations:
    """The answer of a batch of one."""
    there = np.flatnonzero(found.ids[0] != None)  # noqa: E711 - each of an array
    because = None if found.because is None else [found.because[0]]
    return Recommendations(found.ids[0][there], found.scores[0][there], found.notes, because)


def _notes(catalogue: Catalogue, people: People, wanted: Wanted, pool: Pool) -> list[str | None]:
    """Why an answer is short, for each that is, and what may not be meant as it was read."""
    notes: list[str | None] = [people.notes.get(user) for user in range(len(pool.rows))]
    short = np.flatnonzero(pool.n_found < wanted.k)
    if not len(short):
        return notes
    liked, n_found = people.histories.liked.sizes, pool.n_found
    n_known = np.bincount(people.known // max(len(catalogue), 1), minlength=len(pool.rows))
    for user in short:
        if not len(catalogue):
            notes[user] = "the index is empty"
        elif not liked[user]:
            notes[user] = "nothing is liked, so there is nothing to go by"
        else:
            one = n_found[user] == 1
            are = "is" if one else "are"
            meet = "" if wanted.where is None else f" that {'meets' if one else 'meet'} the condition"
            met = ("item" if one else "items") + meet
            caps = ", within max_per" if wanted.most else ""
            short_of = (
                f"{n_found[user]} {met} {are} left to recommend{caps}, {wanted.k} were asked for; "
                f"{n_known[user]} are left out as known or excluded"
            )
            told = people.notes.get(int(user))
            notes[user] = short_of if told is None else f"{told}; {short_of}"
    return notes
