"""Tuning without labels: by tasks made of the items, and only where these agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from embedsearch.evaluate.bootstrap import Figure, bootstrapped
from embedsearch.pipeline.tune.candidates import Candidate, joined
from embedsearch.pipeline.tune.sample import SEED
from embedsearch.pipeline.tune.scoring import found_again
from embedsearch.pipeline.tune.sweep import Sweep
from embedsearch.types import Progress

Values = NDArray[np.float64]
MEASURE = "MRR"
# below this, orders of the tasks are as good as unrelated: where two of them agree by .14, what is best by all of them
# loses a third of mAP (docs/tune-measured.md, banking77)
LEAST_AGREEMENT = 0.6


@dataclass(slots=True)
class Told:
    """candidates, with values of MEASURE: candidates x items of the choosing part, the mean over tasks. figures: of the
    best and the default, by task, on the reporting part, and of their difference. agreement: Spearman of the orders
    that two tasks give. taken: None where it cannot be told."""

    candidates: list[Candidate]
    values: Values
    best: Candidate
    taken: Candidate | None
    best_figures: dict[str, Figure]
    default_figures: dict[str, Figure]
    difference: dict[str, Figure]
    agreement: dict[str, float]
    verdict: str


@dataclass(frozen=True, slots=True)
class Parts:
    """Rows of a sample: projections are fitted on the first, the choice is made on the second, its figures come from
    the third."""

    fit: NDArray[np.int64]
    choose: NDArray[np.int64]
    report: NDArray[np.int64]


def thirds(n: int) -> Parts:
    """Three parts of n items that share none."""
    order = np.random.default_rng(SEED + 1).permutation(n)
    return Parts(*(np.sort(part) for part in np.array_split(order, 3)))


def tune_by_tasks(
    sweep: Sweep,
    singles: Sequence[Candidate],
    default: Candidate,
    tasks: Mapping[str, tuple[int, int]],
    parts: Parts,
    progress: Progress,
) -> Told:
    """tasks: by name, the number of the view that asks and of the one that answers."""
    found: dict[Candidate, Values] = {}  # tasks x items

    def score(cells: Iterable[tuple[tuple[str, ...], str]]) -> None:
        for layers, pooling in cells:
            for candidate, views in sweep.variants(layers, pooling, parts.choose):
                found[candidate] = np.array([found_again(views[a], views[b]) for a, b in tasks.values()])
            progress.advance(1)

    progress.stage("scoring", len(singles))
    score((single.layers, single.pooling) for single in singles)
    order = [single.layers[0] for single in singles]
    pairs = joined(sorted(found, key=lambda candidate: -found[candidate].mean()), order)
    alike = agreement({name: np.array([found[each][at].mean() for each in singles]) for at, name in enumerate(tasks)})
    progress.stage("scoring pairs", len(pairs))
    score(pairs)
    candidates = list(found)
    means = np.array([found[candidate].mean(axis=1) for candidate in candidates])  # candidates x tasks
    best = candidates[int(_ranks(means).mean(axis=1).argmax())]
    by = {candidate: _by_task(sweep, candidate, tasks, parts.report) for candidate in {best, default}}
    difference = {name: bootstrapped(by[best][name] - by[default][name]) for name in tasks}
    can_tell, verdict = _verdict(alike, best, default, difference)
    figures = {
        candidate: {name: bootstrapped(values) for name, values in measured.items()}
        for candidate, measured in by.items()
    }
    return Told(
        candidates,
        np.array([found[candidate].mean(axis=0) for candidate in candidates]),
        best,
        best if can_tell else None,
        figures[best],
        figures[default],
        difference,
        alike,
        verdict,
    )


def agreement(scores: Mapping[str, Values]) -> dict[str, float]:
    """Spearman's correlation of each two rows of scores, by "first - second"."""
    ranks = {name: _ranks(values[:, None])[:, 0] for name, values in scores.items()}
    return {f"{a} - {b}": _correlation(ranks[a], ranks[b]) for a, b in combinations(scores, 2)}


def _correlation(a: Values, b: Values) -> float:
    """Pearson's; 0 where one of the two is constant, for then nothing is ordered."""
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(scores: Values) -> Values:
    """Of each column, 0 for the smallest; equal ones share the mean of theirs."""
    ranks = np.empty(scores.shape)
    for column in range(scores.shape[1]):
        _, at, counts = np.unique(scores[:, column], return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        ranks[:, column] = (ends - (counts + 1) / 2)[at]
    return ranks


def _by_task(
    sweep: Sweep, candidate: Candidate, tasks: Mapping[str, tuple[int, int]], rows: NDArray[np.int64]
) -> dict[str, Values]:
    views = sweep.vectors(candidate, rows)
    return {name: found_again(views[asking], views[answering]) for name, (asking, answering) in tasks.items()}


def _verdict(
    alike: Mapping[str, float], best: Candidate, default: Candidate, difference: Mapping[str, Figure]
) -> tuple[bool, str]:
    """Whether it can be told, and why not."""
    pair, least = min(alike.items(), key=lambda entry: entry[1])
    if least < LEAST_AGREEMENT:
        return False, (
            f"cannot tell: the tasks order the choices differently ({pair}: {least:+.2f}, where {LEAST_AGREEMENT:g} is "
            "asked of each two), so what is right for your use decides"
        )
    if best == default:
        return True, "the default is best by all tasks together"
    worse = [name for name, figure in difference.items() if figure.low <= 0]
    if worse:
        return False, (
            f"cannot tell: {best} is not clearly better than the default by {', '.join(worse)}, on items that nothing "
            "was chosen by"
        )
    return True, f"better than the default by every task, on items that nothing was chosen by: {best}"
