"""Films, what people thought of them, and vectors of both kinds: of what a film is, and of who liked it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from data import CACHE, SHARED
from search_sets import MissingSourceError, run_apart

import embedsearch as es
from embedsearch.evaluate import Interactions

FILMS = SHARED / "ml-latest-small"
LIKED = 4.0  # stars; what has fewer is known, and pulls nothing


@dataclass(frozen=True)
class Films:
    """ids, texts: of each film. content: MiniLM over its title and genres, float32 n x 384. ratings: all of them."""

    ids: list[str]
    content: np.ndarray
    ratings: Interactions

    @property
    def likes(self) -> Interactions:
        """The same with weight 1 for what was liked, and 0 for what is only known."""
        r = self.ratings
        return Interactions(r.users, r.items, (r.weights >= LIKED).astype(np.float64), r.times)


def films() -> Films:
    """MovieLens ml-latest-small. Raises MissingSourceError."""
    if not (FILMS / "ratings.csv").exists():
        raise MissingSourceError("MovieLens ml-latest-small, beside the repository in shared/data")
    with (FILMS / "movies.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    path = CACHE / "films-minilm.npy"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        texts = [f"{row['title']}. {row['genres'].replace('|', ', ')}" for row in rows]
        run_apart(_encode, texts, path)  # the threads that torch leaves behind would be in the way of what is timed
    with (FILMS / "ratings.csv").open(encoding="utf-8") as stream:
        told = [(r["userId"], r["movieId"], float(r["rating"]), float(r["timestamp"])) for r in csv.DictReader(stream)]
    return Films([row["movieId"] for row in rows], np.load(path), Interactions.of(told))


def _encode(texts: list[str], path: Path) -> None:
    partial = path.with_suffix(".partial.npy")
    np.save(partial, es.Encoder("minilm", weights="packaged").encode(texts))
    partial.replace(path)


@dataclass(frozen=True)
class Factors:
    """ALS on what is known: ids of the films it has seen with their factors, and what implicit itself makes of them."""

    ids: list[str]
    items: np.ndarray
    model: object
    users: dict[str, int]
    matrix: object

    @property
    def itself(self) -> ImplicitRecommends:
        return ImplicitRecommends(self)


def learn(known: Interactions, settings: Mapping[str, float], seed: int = 0) -> Factors:
    """Hu, Koren & Volinsky (2008) by implicit; only liked entries of `known` count."""
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    liked = known.where(known.weights > 0)
    ids, items = np.unique(liked.items.astype(str), return_inverse=True)
    names, users = np.unique(liked.users.astype(str), return_inverse=True)
    matrix = csr_matrix((np.ones(len(liked), np.float32), (users, items)))
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(random_state=seed, num_threads=0, **settings)
        model.fit(matrix, show_progress=False)
    return Factors(ids.tolist(), model.item_factors, model, {name: row for row, name in enumerate(names)}, matrix)


class ImplicitRecommends:
    """implicit's own `recommend` with its user factors, asked as a Recommender is: for people it was trained with."""

    def __init__(self, factors: Factors) -> None:
        self._factors = factors
        self.ids = factors.ids
        self._place = {item: row for row, item in enumerate(factors.ids)}

    def recommend_many(self, user_items: list[dict[str, float]], k: int = 10) -> tuple[np.ndarray, None]:
        """Users are known again by what they like; what they know otherwise is left out of a deeper answer."""
        from threadpoolctl import threadpool_limits

        matrix, found = self._factors.matrix, np.full((len(user_items), k), None, object)
        by_likes = {tuple(sorted(row)): user for user, row in enumerate(self._rows())}
        users = [
            by_likes[tuple(sorted(self._place[item] for item, weight in history.items() if weight > 0))]
            for history in user_items
        ]
        with threadpool_limits(1, "blas"):
            deep = k + max(map(len, user_items))
            rows, _ = self._factors.model.recommend(users, matrix[users], N=min(deep, len(self.ids)))
        for at, (history, answers) in enumerate(zip(user_items, rows, strict=True)):
            new = [self.ids[row] for row in answers if row >= 0 and self.ids[row] not in history][:k]
            found[at, : len(new)] = new
        return found, None

    def _rows(self) -> list[list[int]]:
        m = self._factors.matrix
        return [m.indices[m.indptr[u] : m.indptr[u + 1]].tolist() for u in range(m.shape[0])]
