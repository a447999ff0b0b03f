"""How good recommendations are, beside what everybody likes and beside chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import UsageError, unknown
from embedsearch.evaluate.bootstrap import RESAMPLES, Figure, bootstrapped
from embedsearch.evaluate.interactions import Interactions, Split, split_interactions

MEASURES = ("recall", "ndcg", "hit_rate", "coverage", "diversity", "novelty")
BASELINES = ("popularity", "random")


class Recommends(Protocol):
    """What can be evaluated: `es.Recommender`, or anything that answers as it does."""

    @property
    def ids(self) -> list[str]:
        """Every item that may be recommended."""

    def recommend_many(self, user_items: Any, k: int = 10) -> Any:
        """Ids (n x k, None at the end) and scores for a mapping of ids to weights for each user."""

    def item_vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Vectors whose products are likenesses of at most 1."""


Figures: TypeAlias = dict[str, Figure]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures by name, the baselines among them. n_users: who were asked for, n_held: items held out of them,
    n_unknown: of these in no index, which count as missed. per_user: for each name recall, nDCG and hits of each
    user, for paired comparisons."""

    split: str
    k: int
    n_users: int
    n_held: int
    n_unknown: int
    figures: dict[str, Figures]
    per_user: dict[str, dict[str, NDArray[np.float64]]]

    def __getitem__(self, name: str) -> Figures:
        if name not in self.figures:
            raise unknown("recommender", name, self.figures)
        return self.figures[name]

    def difference(self, name: str, other: str, measure: str = "ndcg") -> Figure:
        """How much more `name` has than `other`, of the same users. Raises UnknownNameError for another name, or a
        measure that is no mean over all users."""
        for each in (name, other):
            if each not in self.per_user:
                raise unknown("recommender", each, self.per_user)
        if measure not in self.per_user[name]:
            raise unknown("measure", measure, self.per_user[name])
        return bootstrapped(self.per_user[name][measure] - self.per_user[other][measure])

    def __str__(self) -> str:
        unknown = f", {self.n_unknown:,} of them not indexed" if self.n_unknown else ""
        told = f"{self.n_users:,} users, {self.n_held:,} items held out ({self.split}{unknown}), k = {self.k}"
        width = max(map(len, self.figures))
        lines = [f"{'':{width}}  " + "  ".join(f"{name:24}" for name in MEASURES).rstrip()]
        for name, figures in self.figures.items():
            lines.append(f"{name:{width}}  " + "  ".join(f"{figures[measure]!s:24}" for measure in MEASURES).rstrip())
        return "\n".join([told, *lines])


def recommender(
    rec: Recommends | Mapping[str, Recommends],
    interactions: Any,
    split: Split = "last",
    k: int = 10,
    *,
    held: float | None = None,
    seed: int = 0,
    **options: Any,
) -> Evaluation:
    """How often what users took later, or what is held out of it, is among the k items that are recommended to them.

    rec: a recommender, or several by name. interactions: a table or tuples of user, item, and perhaps weight and
    time; see `Interactions.of`. split, held, seed: see `split_interactions`; what was learnt for `rec` must not have
    seen the part that is held out here, and that function gives the other one. options: of `recommend_many`, such as
    strategy.

    Of several recommenders each is asked with what it holds; likenesses are told by the first where it holds every
    item.

    Only what is known makes profiles and counts as popular, and what a user knows is not recommended. Measures, at k,
    as means over users: recall, hits / items held out; ndcg, gain 1 (Järvelin & Kekäläinen, 2002); hit_rate, the
    share of users with a hit; coverage, the share of all items that somebody is recommended; diversity, 1 - cosine
    over all pairs of one answer (Ziegler et al., WWW 2005); novelty, -log2 of the share of users who know the item,
    one more counted on both sides (Zhou et al., PNAS 2010). Raises UsageError where nobody is left to ask for, and
    where answers hold an id that is unknown, twice, or known to the user.
    """
    recs: dict[str, Any] = dict(rec) if isinstance(rec, Mapping) else {"recommender": rec}
    taken = set(recs) & set(BASELINES)
    if taken or not recs:
        raise UsageError(
            f"{', '.join(taken) or 'no recommender'} is given; {' and '.join(BASELINES)} are always beside it"
        )
    known, out = split_interactions(interactions, split, held=held, seed=seed)
    held_by = {name: set(each.ids) for name, each in recs.items()}
    catalogue = list(dict.fromkeys(item for each in recs.values() for item in each.ids))
    place = {item: at for at, item in enumerate(catalogue)}
    histories: dict[str, dict[str, float]] = {}
    for user, item, weight in zip(known.users, known.items, known.weights, strict=True):
        if item in place:
            histories.setdefault(user, {})[item] = float(weight)
    truths: dict[str, list[str]] = {}
    for user, item in zip(out.users, out.items, strict=True):
        truths.setdefault(user, []).append(item)
    users = sorted(user for user in truths if any(weight > 0 for weight in histories.get(user, {}).values()))
    if not users:
        raise UsageError(
            "nobody has both something liked that is indexed and something held out; give more interactions"
        )
    asked, wanted = [histories[user] for user in users], [truths[user] for user in users]
    counts = _counts(known, place)
    answers = {}
    for name, each in recs.items():
        theirs = [{item: weight for item, weight in history.items() if item in held_by[name]} for history in asked]
        answers[name] = _checked(name, each.recommend_many(theirs, k, **options)[0], asked, place, k)
    by_count = np.argsort(-counts, kind="stable")
    answers["popularity"] = _first_unknown([by_count] * len(users), asked, catalogue, place, k)
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(len(catalogue)) for _ in users]
    answers["random"] = _first_unknown(shuffled, asked, catalogue, place, k)
    first = next(iter(recs.values()))
    figures, per_user = {}, {}
    for name, found in answers.items():
        likeness = first if len(held_by[next(iter(recs))]) == len(catalogue) else recs.get(name, first)
        novelty = -np.log2((counts + 1) / (len(set(known.users)) + 1))
        per_user[name] = _per_user(found, wanted, k)
        about = _about(found, place, novelty, likeness)
        means = {measure: bootstrapped(values) for measure, values in {**per_user[name], **about}.items()}
        means["coverage"] = _coverage(found, len(catalogue))
        figures[name] = {measure: means[measure] for measure in MEASURES}
    n_held = sum(map(len, wanted))
    n_unknown = sum(item not in place for truth in wanted for item in truth)
    return Evaluation(split, k, len(users), n_held, n_unknown, figures, per_user)


def _checked(
    name: str, found: Any, asked: Sequence[Mapping[str, float]], place: dict[str, int], k: int
) -> NDArray[np.object_]:
    """The answers of a recommender. Raises UsageError for what would count as more than it is."""
    answers = np.asarray(found, object)
    if answers.ndim != 2 or len(answers) != len(asked) or answers.shape[1] > k:
        raise UsageError(
            f"{name} answers in the shape {answers.shape}; it must be {len(asked)} users x at most {k} ids"
        )
    for user, (row, history) in enumerate(zip(answers, asked, strict=True)):
        items = [item for item in row if item is not None]
        for item in items:
            if item not in place:
                raise UsageError(f"{name} recommends {item!r}, which is not among its ids")
            if item in history:
                raise UsageError(f"{name} recommends {item!r} to somebody who knows it (row {user})")
        if len(set(items)) < len(items):
            raise UsageError(f"{name} recommends an item twice to one user (row {user}): {', '.join(items)}")
    return answers


def _counts(known: Interactions, place: dict[str, int]) -> NDArray[np.int64]:
    """How many users know and like each item of the catalogue."""
    items = [
        place[item] for item, weight in zip(known.items, known.weights, strict=True) if item in place and weight > 0
    ]
    return np.bincount(np.array(items, np.int64), minlength=len(place))


def _first_unknown(
    orders: Sequence[NDArray[np.int64]],
    asked: Sequence[Mapping[str, float]],
    catalogue: Sequence[str],
    place: dict[str, int],
    k: int,
) -> NDArray[np.object_]:
    found = np.full((len(asked), min(k, len(catalogue))), None, object)
    for user, (order, history) in enumerate(zip(orders, asked, strict=True)):
        first = order[: k + len(history)]
        new = first[~np.isin(first, [place[item] for item in history])][:k]
        found[user, : len(new)] = [catalogue[at] for at in new]
    return found


def _per_user(found: NDArray[np.object_], wanted: Sequence[Sequence[str]], k: int) -> dict[str, NDArray[np.float64]]:
    hits = np.array(
        [[item in truth for item in row] for row, truth in zip(found, map(set, wanted), strict=True)], float
    )
    n_wanted = np.array(list(map(len, wanted)))
    gains = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(gains)[np.minimum(n_wanted, k) - 1]
    hits = hits.reshape(len(wanted), -1)
    return {
        "recall": hits.sum(axis=1) / n_wanted,
        "ndcg": hits @ gains[: hits.shape[1]] / ideal,
        "hit_rate": hits.any(axis=1).astype(np.float64),
    }


def _about(
    found: NDArray[np.object_], place: dict[str, int], novelty: NDArray[np.float64], likeness: Recommends
) -> dict[str, NDArray[np.float64]]:
    """Diversity and novelty of each answer; users with too short a one are left out."""
    named = sorted({str(item) for row in found for item in row if item is not None})
    number = {item: at for at, item in enumerate(named)}
    x = likeness.item_vectors(named)
    apart, new = [], []
    for row in found:
        items = [item for item in row if item is not None]
        if items:
            new.append(novelty[[place[item] for item in items]].mean())
        if len(items) > 1:
            mine = x[[number[item] for item in items]]
            pairs = np.triu_indices(len(items), 1)
            apart.append(float((1 - (mine @ mine.T)[pairs]).mean()))
    return {"diversity": np.array(apart), "novelty": np.array(new)}


def _coverage(found: NDArray[np.object_], n_items: int) -> Figure:
    """The share of items that somebody is recommended. A resample of the users holds fewer of them, and so names fewer
    items: the interval has its width from the resamples, and lies about the share itself."""
    numbers = {item: at for at, item in enumerate(sorted({item for row in found for item in row if item is not None}))}
    rows = np.array([[numbers.get(item, -1) for item in row] for row in found], np.int64)
    rng = np.random.default_rng(0)
    shares = np.empty(RESAMPLES)
    for at in range(RESAMPLES):
        named = np.zeros(len(numbers) + 1, np.bool_)
        named[rows[rng.integers(0, len(rows), len(rows))]] = True
        shares[at] = named[: len(numbers)].sum() / n_items
    low, high = np.percentile(shares, [2.5, 97.5]) - shares.mean()
    mean = len(numbers) / n_items
    return Figure(mean, max(mean + float(low), 0.0), min(mean + float(high), 1.0))
