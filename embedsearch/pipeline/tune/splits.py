"""Who looks at what: parts of a sample that share nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import UsageError
from embedsearch.pipeline.tune.sample import SEED, Truth

Rows = NDArray[np.int64]
FOLDS = 5
FEW_GROUPS = 8  # with fewer, each is divided, so that a fold leaves enough to choose by
_PIECES = 15  # that few groups are divided into altogether
_LEAST_PIECE = 4


@dataclass(frozen=True, slots=True)
class Parts:
    """Rows of a sample: projections are fitted on the first; the second ask and answer; the third, of which nothing
    is known, answer too. truth: of `judged`, with groups of which each is in one fold alone. whole: those groups are
    labels (or what pairs join); else pieces of them."""

    fit: Rows
    judged: Rows
    beside: Rows
    truth: Truth
    whole: bool


def split(truth: Truth, n_items: int) -> Parts:
    """truth: of the first len(truth) of n_items.

    Where at least a half of the items is not judged, one half of those is fitted on and the other stands beside the
    judged ones; else they are all fitted on, with as many judged groups as make a third of the sample. Raises
    UsageError where too little is left to ask.
    """
    n = len(truth)
    if len(np.unique(truth.groups)) == 1 and n == n_items:
        raise UsageError("all items have the same label, so no answer is wrong; label items of another kind")
    rng = np.random.default_rng(SEED + 1)
    unjudged = rng.permutation(np.arange(n, n_items))
    judged = np.arange(n)
    if 2 * len(unjudged) >= n_items:
        fit, beside = np.array_split(unjudged, 2)
    else:
        share = max(n_items / 3 - len(unjudged), 0.0) / n
        groups = truth.groups if len(np.unique(truth.groups)) >= 2 * FEW_GROUPS else _pieces(truth.groups, rng)
        parts = divide(groups, [share, 1 - share], rng) if share > 0 else [judged[:0], judged]
        fit, judged, beside = np.concatenate([unjudged, parts[0]]), parts[1], judged[:0]
    asked = truth.some(judged)
    whole = len(np.unique(asked.groups[asked.relevant.any(axis=1)])) >= FEW_GROUPS
    if not whole:
        asked = asked.within(_pieces(asked.groups, rng))
    if len(np.unique(truth.groups)) == 1 and n < 2 * _LEAST_PIECE:
        raise UsageError(f"{n} labelled items, all of the same label, are too few; label some of other labels as well")
    asking = asked.relevant.any(axis=1)
    if len(np.unique(asked.groups[asking])) < 2:
        raise UsageError(
            f"{n} labelled items are too few: of the {len(judged)} that are not for fitting projections, "
            f"{int(asking.sum())} have another that is right for them; label more items, several of each label"
        )
    return Parts(np.sort(fit), judged, np.sort(beside), asked, whole)


def divide(groups: Rows, shares: list[float], rng: np.random.Generator) -> list[Rows]:
    """Rows of whole groups, their numbers near the shares; those that stand alone are divided apart from others."""
    sizes = np.bincount(groups)
    part_of = np.zeros(len(sizes), np.int64)
    for kind in (sizes > 1, sizes <= 1):
        filled = np.zeros(len(shares))
        members = rng.permutation(np.flatnonzero(kind))
        for group in members[np.argsort(-sizes[members], kind="stable")]:
            at = int(np.argmin(filled / np.array(shares)))
            part_of[group] = at
            filled[at] += sizes[group]
    return [np.flatnonzero(part_of[groups] == at) for at in range(len(shares))]


def folds_of(groups: Rows) -> Rows:
    """The fold, 0 to FOLDS - 1, of each query: that of its group, of queries as even as can be."""
    names = np.unique(groups)
    rows = divide(groups, [1.0] * min(FOLDS, len(names)), np.random.default_rng(SEED + 2))
    fold_of = np.zeros(len(groups), np.int64)
    for fold, members in enumerate(rows):
        fold_of[members] = fold
    return np.asarray(np.unique(fold_of, return_inverse=True)[1], np.int64)


def _pieces(groups: Rows, rng: np.random.Generator) -> Rows:
    """Groups divided at random, into _PIECES or so altogether, of at least _LEAST_PIECE items where they have them."""
    pieces = np.zeros(len(groups), np.int64)
    names = np.unique(groups)
    wanted = -(-_PIECES // len(names))
    n_made = 0
    for name in names:
        members = rng.permutation(np.flatnonzero(groups == name))
        for piece in np.array_split(members, max(min(wanted, len(members) // _LEAST_PIECE), 1)):
            pieces[piece] = n_made
            n_made += 1
    return pieces
