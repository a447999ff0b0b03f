"""Tuning by labels: every candidate scored on one part of a sample, two of them on another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedsearch.evaluate.bootstrap import Figure, bootstrapped
from embedsearch.pipeline.tune.candidates import Candidate, joined
from embedsearch.pipeline.tune.choosing import Choice, choose
from embedsearch.pipeline.tune.sample import Truth
from embedsearch.pipeline.tune.scoring import judged_values
from embedsearch.pipeline.tune.splits import Parts
from embedsearch.pipeline.tune.sweep import Sweep
from embedsearch.types import Progress

Values = NDArray[np.float64]
MEASURE = "mAP"  # looks at all pairs, where P@1 looks at one answer a query: few labels tell more by it


@dataclass(slots=True)
class Found:
    """candidates, with values of MEASURE: candidates x queries of the choosing part. figures, difference: of the taken
    and the default candidate, and of their difference, by measure, on the reporting part."""

    candidates: list[Candidate]
    values: Values
    choice: Choice
    taken: Candidate
    taken_figures: dict[str, Figure]
    default_figures: dict[str, Figure]
    difference: dict[str, Figure]
    n_asked: int
    verdict: str


def tune_by_labels(
    sweep: Sweep, singles: Sequence[Candidate], default: Candidate, truth: Truth, parts: Parts, progress: Progress
) -> Found:
    """singles: a layer and pooling each, the default among them. truth: of the first rows of the pooled arrays."""
    choosing = truth.some(parts.choose)
    asks = choosing.relevant.any(axis=1)
    found: dict[Candidate, Values] = {}

    def score(cells: Iterable[tuple[tuple[str, ...], str]]) -> None:
        for layers, pooling in cells:
            for candidate, (x,) in sweep.variants(layers, pooling, parts.choose):
                found[candidate] = judged_values(x, choosing)[MEASURE][asks]
            progress.advance(1)

    progress.stage("scoring", len(singles))
    score((single.layers, single.pooling) for single in singles)
    order = [single.layers[0] for single in singles]
    pairs = joined(sorted(found, key=lambda candidate: -found[candidate].mean()), order)
    progress.stage("scoring pairs", len(pairs))
    score(pairs)
    candidates = list(found)
    values = np.array(list(found.values()))
    choice = choose(values, choosing.groups[asks], candidates.index(default))
    taken = candidates[choice.taken]
    reporting = truth.some(parts.report)
    by = {
        candidate: judged_values(sweep.vectors(candidate, parts.report)[0], reporting) for candidate in {taken, default}
    }
    asked = reporting.relevant.any(axis=1)
    difference = {name: bootstrapped(by[taken][name][asked] - by[default][name][asked]) for name in by[taken]}
    verdict, kept = _verdict(choice, taken, default, difference)
    figures = {
        candidate: {name: bootstrapped(values[asked]) for name, values in measured.items()}
        for candidate, measured in by.items()
    }
    return Found(
        candidates, values, choice, kept, figures[kept], figures[default], difference, int(asked.sum()), verdict
    )


def _verdict(
    choice: Choice, taken: Candidate, default: Candidate, difference: dict[str, Figure]
) -> tuple[str, Candidate]:
    """What is to be said of it, and what is taken in the end."""
    cross = f"{choice.gain:+.3f} {MEASURE} by cross-validation, standard error {choice.error:.3f}"
    if taken == default:
        return f"the default is kept: choosing another would gain {cross}, which is not clear", default
    apart = difference[MEASURE]
    if apart.high < 0:
        return (
            f"the default is kept: {taken} was better where it was chosen, and worse on unseen items",
            default,
        )
    if apart.low > 0:
        return f"better than the default, on unseen items too (choosing gains {cross})", taken
    return (
        f"probably better than the default ({cross}), but the unseen items are too few to show it; more labels "
        "would tell",
        taken,
    )
