"""What is found of what people liked: every strategy, blends, popularity and chance."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from recommend_data import LIKED, Factors, Films, learn
from recommend_ranks import ndcg, rank_grid

import embedsearch as es
from embedsearch.evaluate import Evaluation, Interactions, recommender, split_interactions

STRATEGIES = ("centroid", "agreement", "max", "clusters", "auto")
SETTINGS = [
    {"factors": factors, "regularization": regularization, "alpha": alpha, "iterations": 15}
    for factors, (regularization, alpha) in itertools.product((16, 32, 64), ((0.05, 1), (0.1, 5), (1, 20)))
]
SHARES = (0.1, 0.2, 0.3, 0.5, 1.0)  # of the content, to the factors
LENGTHS = (1, 2, 3, 5, 10, 20, 50, 100)
K, HELD, TEST_SEED, VALIDATION_SEED = 10, 0.2, 0, 1


class With:
    """A recommender with options of its own."""

    def __init__(self, rec: es.Recommender, **options: Any) -> None:
        self._rec, self._options = rec, options
        self.ids, self.item_vectors = rec.ids, rec.item_vectors

    def recommend_many(self, user_items: Any, k: int = 10) -> Any:
        return self._rec.recommend_many(user_items, k, **self._options)


class Judged(With):
    """implicit's own answers; how alike they are is told by the content."""

    def __init__(self, factors: Factors, rec: es.Recommender) -> None:
        super().__init__(rec)
        self.recommend_many = factors.itself.recommend_many  # type: ignore[method-assign]


def quality(films: Films, folder: Path, say: Callable[[str], None]) -> tuple[list[str], list[str]]:
    """The lines of the page, and what was missed."""
    known, _ = split_interactions(films.likes, "random", held=HELD, seed=TEST_SEED)
    content = es.Recommender(es.build(films.content, folder / "content", ids=films.ids))
    settings, strategies, share, fusion, chosen_lines = _choose(films, known, content, folder, say)
    factors = learn(known, settings)
    learnt = es.build(factors.items, folder / "learnt", ids=factors.ids, metric="ip")
    rec = es.Recommender(learnt)
    blend = es.Recommender([content._indexes[0], learnt], weights=[share, 1], fusion=fusion)
    other = "score" if fusion == "rank" else "rank"
    blend_other = es.Recommender([content._indexes[0], learnt], weights=[share, 1], fusion=other)
    even = es.Recommender([content._indexes[0], learnt])
    rows = {f"content, {name}": With(content, strategy=name) for name in STRATEGIES}
    rows |= {f"factors, {name}": With(rec, strategy=name) for name in STRATEGIES}
    rows["factors, implicit's own recommend"] = Judged(factors, content)
    best = dict(zip(("content", "factors"), strategies, strict=True))
    rows[f"blend by {fusion}, {share:g} to 1"] = With(blend, strategy=strategies)
    rows[f"blend by {fusion}, auto"] = With(blend)
    rows[f"blend by {other}, {share:g} to 1"] = With(blend_other, strategy=strategies)
    rows["blend by rank, 1 to 1"] = With(even, strategy=strategies)
    rows[f"blend by {fusion}, diversity 0.3"] = With(blend, strategy=strategies, diversity=0.3)
    found = recommender(rows, films.likes, "random", K, held=HELD, seed=TEST_SEED)
    say(str(found))
    blended = f"blend by {fusion}, {share:g} to 1"
    parts = [f"content, {best['content']}", f"factors, {best['factors']}"]
    told, missed = _verdicts(found, blended, parts)
    lines = [
        "## What is found",
        "",
        f"MovieLens ml-latest-small: {len(films.ids):,} films, {len(films.ratings):,} ratings; liked is what has 4 "
        f"stars or more, the "
        f"rest is known and pulls nothing. {found.n_held:,} likes ({HELD:.0%} of each user's, at random) of "
        f"{found.n_users} users are "
        f"held out, k = {K}. Content: MiniLM over title and genres. Factors: ALS of implicit on what is not held "
        f"out, indexed "
        "under ip. Means over users with 95 % bootstrap intervals.",
        "",
        *_table(found),
        "",
        *told,
        "",
        *chosen_lines,
        "",
        *_weights_table(films, content, strategies[0]),
    ]
    return lines, missed


def _choose(
    films: Films, known: Interactions, content: es.Recommender, folder: Path, say: Callable[[str], None]
) -> tuple[dict[str, Any], list[str], float, str, list[str]]:
    """Everything that is chosen, by a validation part of what is known: settings of ALS, strategies, and the blend."""
    inner, out = split_interactions(known, "random", held=HELD, seed=VALIDATION_SEED)

    def judge(recs: dict[str, Any]) -> Evaluation:
        return recommender(recs, known, "random", K, held=HELD, seed=VALIDATION_SEED)

    learnt = {str(number): learn(inner, settings) for number, settings in enumerate(SETTINGS)}
    tried = judge({name: Judged(factors, content) for name, factors in learnt.items()})
    best = max(learnt, key=lambda name: tried[name]["ndcg"].mean)
    settings, factors = SETTINGS[int(best)], learnt[best]
    index = es.build(factors.items, folder / "validation", ids=factors.ids, metric="ip")
    rec = es.Recommender(index)
    named = STRATEGIES[:-1]
    by_strategy = judge(
        {
            f"{side}, {name}": With(each, strategy=name)
            for side, each in (("content", content), ("factors", rec))
            for name in named
        }
    )
    strategies = [
        max(named, key=lambda name, side=side: by_strategy[f"{side}, {name}"]["ndcg"].mean)
        for side in ("content", "factors")
    ]
    blends = {
        (share, fusion): With(
            es.Recommender([content._indexes[0], index], weights=[share, 1], fusion=fusion), strategy=strategies
        )
        for share in SHARES
        for fusion in ("rank", "score")
    }
    by_blend = judge({f"{share} {fusion}": each for (share, fusion), each in blends.items()})
    share, fusion = max(blends, key=lambda pair: by_blend[f"{pair[0]} {pair[1]}"]["ndcg"].mean)
    say(f"chosen: {settings}, {strategies}, {share} by {fusion}")
    told = ", ".join(f"{name} {value:g}" for name, value in settings.items())
    grid = ", ".join(
        f"{share:g} "
        f"{' / '.join(format(by_blend[f'{share} {fusion}']['ndcg'].mean, '.4f') for fusion in ('rank', 'score'))}"
        for share in SHARES
    )
    lines = [
        f"Chosen on a validation part ({HELD:.0%} of what is known, never of what is held out), by nDCG: ALS with "
        f"{told} (of "
        f"{len(SETTINGS)} tried), strategies {strategies[0]} for content and {strategies[1]} for factors, weight "
        f"{share:g} of the content to 1 of "
        f"the factors, by {fusion}. nDCG there of the weights, by rank / score: {grid}.",
        "",
        *_by_length(inner, out, content, rec),
        "",
        *rank_grid(inner, out, {"content": content, "factors": rec}, K),
    ]
    return settings, strategies, share, fusion, lines


def _by_length(inner: Interactions, out: Interactions, content: es.Recommender, learnt: es.Recommender) -> list[str]:
    """What `auto` rests on: nDCG on the validation part, of histories cut to a length. What else somebody knows pulls
    nothing, and is no answer."""
    likes = inner.where(inner.weights > 0)
    lines = [
        "### What auto rests on",
        "",
        "nDCG@10 on the validation part, of everybody who likes at least so many, with so many of them drawn at "
        "random (the rest of what is known has no weight, and is no answer); in "
        "brackets how far the mean of users lies above that of centroid, and the standard error of that difference.",
        "",
        "| likes | users | "
        + " | ".join(f"{side}, {name}" for side in ("content", "factors") for name in STRATEGIES[:-1])
        + " |",
        "|---" * (2 + 2 * (len(STRATEGIES) - 1)) + "|",
    ]
    for length in LENGTHS:
        rng = np.random.default_rng(length)
        users, counts = np.unique(likes.users.astype(str), return_counts=True)
        kept = np.zeros(len(likes), bool)
        for user in users[counts >= length]:
            kept[rng.permutation(np.flatnonzero(likes.users == user))[:length]] = True
        some = likes.where(kept)
        users = sorted(set(some.users) & set(out.users))
        truths = [set(out.items[out.users == user]) for user in users]
        rest = [inner.items[inner.users == user] for user in users]
        cells = []
        for rec in (content, learnt):
            indexed = set(rec.ids)
            histories = [
                {item: 0.0 for item in others if item in indexed}
                | {item: 1.0 for item in some.items[some.users == user] if item in indexed}
                for user, others in zip(users, rest, strict=True)
            ]
            values = {}
            for name in STRATEGIES[:-1]:
                ids, _ = rec.recommend_many(histories, K, strategy=name)
                values[name] = ndcg(ids, truths, K)
            for name, each in values.items():
                apart = each - values["centroid"]
                more = "" if name == "centroid" else f" ({apart.mean():+.4f} ± {apart.std() / len(apart) ** 0.5:.4f})"
                cells.append(f"{each.mean():.4f}{more}")
        lines.append(f"| {length} | {len(users)} | " + " | ".join(cells) + " |")
    return lines


def _weights_table(films: Films, content: es.Recommender, strategy: str) -> list[str]:
    """What ratings, age and dislikes change, with the very split of the table above and with each user's last like."""
    r = films.ratings
    year = 365.25 * 24 * 3600
    last = {user: r.times[r.users == user].max() for user in set(r.users)}
    ages = np.array([last[user] - time for user, time in zip(r.users, r.times, strict=True)]) / year
    liked = r.weights >= LIKED
    kinds = {
        "likes count 1": liked.astype(float),
        "stars above 3 as weights": np.where(liked, r.weights - 3, 0),
        "half as much with every year of age": np.where(liked, es.interaction_weights(ages=ages, half_life=1), 0),
        "2 stars or fewer are disliked": np.where(liked, 1.0, np.where(r.weights <= 2, -1.0, 0.0)),
    }
    lines = [
        "### What weights change",
        "",
        f"nDCG@{K} of content by {strategy}: of the likes held out above, and of each user's last like.",
        "",
        "| weights | at random | the last |",
        "|---|---|---|",
    ]
    for name, weights in kinds.items():
        data = Interactions(r.users, r.items, weights, r.times)
        rec = With(content, strategy=strategy)
        at_random = recommender(rec, data, "random", K, held=HELD, seed=TEST_SEED)["recommender"]["ndcg"]
        at_last = recommender(rec, data, "last", K)["recommender"]["ndcg"]
        lines.append(f"| {name} | {at_random} | {at_last} |")
    return lines


def _table(found: Evaluation) -> list[str]:
    lines = [
        "| | recall@10 | nDCG@10 | hit rate | coverage | diversity | novelty, bits |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, figures in found.figures.items():
        lines.append(f"| {name} | " + " | ".join(_cell(figures[measure]) for measure in figures) + " |")
    return lines


def _cell(figure: Any) -> str:
    digits = 2 if figure.mean > 1 else 3
    return f"{figure.mean:.{digits}f} ({figure.low:.{digits}f} to {figure.high:.{digits}f})"


def _verdicts(found: Evaluation, blend: str, parts: list[str]) -> tuple[list[str], list[str]]:
    lines, missed = [], []
    for name, other in [
        (parts[0], "random"),
        *((blend, part) for part in parts),
        (blend, "popularity"),
        *((part, "popularity") for part in parts),
    ]:
        apart = found.difference(name, other)
        lines.append(
            f"- nDCG of *{name}* less that of *{other}*, of the same users: {apart.mean:+.4f} ({apart.low:+.4f} to "
            f"{apart.high:+.4f})"
        )
        if (name, other) == (parts[0], "random"):
            factor = found[name]["ndcg"].mean / max(found[other]["ndcg"].mean, 1e-9)
            lines[-1] += f", {factor:.0f} times as much"
            if factor < 5 or apart.low <= 0:
                missed.append(f"{name} is not far above random")
        elif name == blend and other in parts and apart.mean <= 0:
            missed.append(f"{blend} does not beat {other}")
    ahead = [
        name
        for name in found.figures
        if found[name]["ndcg"].mean < found["popularity"]["ndcg"].mean and name != "random"
    ]
    told = ", ".join(f"*{name}*" for name in ahead) or "none"
    return [*lines, f"- Popularity alone has more nDCG than: {told}."], missed
