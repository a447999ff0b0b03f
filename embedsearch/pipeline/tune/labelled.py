"""Tuning by labels: every candidate scored by every labelled item; the choice, and what it is worth, from different
ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedsearch.evaluate.bootstrap import Figure, bootstrapped
from embedsearch.pipeline.tune.candidates import Candidate, joined
from embedsearch.pipeline.tune.choosing import Choice, choose, sureness
from embedsearch.pipeline.tune.scoring import judged_values
from embedsearch.pipeline.tune.splits import Parts, folds_of
from embedsearch.pipeline.tune.sweep import Sweep
from embedsearch.types import Progress

Values = NDArray[np.float64]
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Pair = tuple[tuple[str, ...], str]  # of layers, with their pooling
MEASURE = "mAP"  # looks at all pairs, where P@1 looks at one answer a query: few labels tell more by it


@dataclass(slots=True)
class Found:
    """candidates, with `values` of MEASURE (candidates x queries) and their `sureness`. asking, groups, folds: of the
    queries, their places among the judged items, groups and folds. taken: what is written. unseen, usual, difference:
    by measure, what choosing without a fold gives on it, what the default gives, and the first minus the second."""

    candidates: list[Candidate]
    values: Values
    sureness: Values
    asking: Rows
    groups: Rows
    folds: Rows
    taken: Candidate
    unseen: dict[str, Figure]
    usual: dict[str, Figure]
    difference: dict[str, Figure]
    verdict: str


class Scores:
    """Values of candidates by the judged items of a sample, a measure each."""

    def __init__(self, sweep: Sweep, parts: Parts) -> None:
        self._sweep, self._truth = sweep, parts.truth
        self._rows = np.concatenate([parts.judged, parts.beside])
        self._asks = parts.truth.relevant.any(axis=1)
        self.asking = np.flatnonzero(self._asks)
        self.groups = parts.truth.groups[self._asks]
        self.of: dict[Candidate, dict[str, Values]] = {}

    def score(self, cells: Iterable[Pair], progress: Progress) -> None:
        """Without a projection and with each."""
        for layers, pooling in cells:
            for candidate, (x,) in self._sweep.variants(layers, pooling, self._rows):
                values = judged_values(x, self._truth)
                self.of[candidate] = {name: row[self._asks] for name, row in values.items()}
            progress.advance(1)

    def matrix(self, candidates: Sequence[Candidate], measure: str = MEASURE) -> Values:
        """candidates x queries."""
        return np.array([self.of[candidate][measure] for candidate in candidates])


def tune_by_labels(
    sweep: Sweep, singles: Sequence[Candidate], default: Candidate, parts: Parts, progress: Progress
) -> Found:
    """singles: a layer and pooling each, the default among them.

    Choosing is cross-validated: for each fold a choice is made on the queries of all others, from the pairs of layers
    that these suggest to the rule that keeps the default, and its figures come from the fold. What is written is chosen
    on all queries.
    """
    scores = Scores(sweep, parts)
    folds = folds_of(scores.groups)
    choosers = [np.ones(len(folds), np.bool_), *(folds != fold for fold in range(int(folds.max()) + 1))]
    progress.stage("scoring", len(singles))
    scores.score(((single.layers, single.pooling) for single in singles), progress)
    alone = list(scores.of)
    pairs = [_pairs(scores, alone, choosing, [single.layers[0] for single in singles]) for choosing in choosers]
    wanted = list(dict.fromkeys(pair for some in pairs for pair in some))
    progress.stage("scoring pairs", len(wanted))
    scores.score(wanted, progress)
    (taken, choice), *of_folds = (
        _chosen(scores, [*alone, *_with(scores, some)], choosing, default)
        for some, choosing in zip(pairs, choosers, strict=True)
    )
    unseen, usual, difference = {}, {}, {}
    for measure, theirs in scores.of[default].items():
        mine = theirs.copy()
        for fold, (candidate, _) in enumerate(of_folds):
            mine[folds == fold] = scores.of[candidate][measure][folds == fold]
        unseen[measure], usual[measure], difference[measure] = (
            bootstrapped(values, scores.groups) for values in (mine, theirs, mine - theirs)
        )
    verdict, taken = _verdict(choice, taken, default, difference)
    candidates = [*alone, *_with(scores, pairs[0])]
    values = scores.matrix(candidates)
    return Found(
        candidates,
        values,
        sureness(values, scores.groups, candidates.index(default)),
        scores.asking,
        scores.groups,
        folds,
        taken,
        unseen,
        usual,
        difference,
        verdict,
    )


def _pairs(scores: Scores, alone: Sequence[Candidate], choosing: Mask, order: Sequence[str]) -> list[Pair]:
    means = dict(zip(alone, scores.matrix(alone)[:, choosing].mean(axis=1), strict=True))
    return joined(sorted(alone, key=lambda candidate: -means[candidate]), order)


def _with(scores: Scores, pairs: Sequence[Pair]) -> list[Candidate]:
    """Candidates of these pairs."""
    known = set(pairs)
    return [candidate for candidate in scores.of if (candidate.layers, candidate.pooling) in known]


def _chosen(
    scores: Scores, candidates: Sequence[Candidate], choosing: Mask, default: Candidate
) -> tuple[Candidate, Choice]:
    values = scores.matrix(candidates)[:, choosing]
    choice = choose(values, scores.groups[choosing], candidates.index(default))
    return candidates[choice.taken], choice


def _verdict(
    choice: Choice, taken: Candidate, default: Candidate, difference: dict[str, Figure]
) -> tuple[str, Candidate]:
    """What is to be said of it, and what is taken in the end."""
    apart = difference[MEASURE]
    told = f"{apart.mean:+.4f} {MEASURE}, {apart.low:+.4f} to {apart.high:+.4f}"
    if taken == default or apart.mean <= 0:
        cross = f"{choice.gain:+.4f} {MEASURE}, standard error {choice.error:.4f}" if taken == default else told
        return f"the default is kept: choosing another gains nothing on items it was not chosen by ({cross})", default
    if apart.low > 0:
        return "better than the default, on items it was not chosen by", taken
    return (
        f"taken for its gain on items it was not chosen by ({told}), which may be luck: the interval holds 0; more "
        "labels would tell"
    ), taken
