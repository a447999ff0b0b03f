"""Who looks at what: parts of a sample that share nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import UsageError
from embedsearch.pipeline.tune.sample import SEED, Truth

Rows = NDArray[np.int64]
FEW_GROUPS = 8  # with fewer in a part, a part of whole groups would hold nothing that can be confused
_LEAST_TO_FIT = 40
_CHOOSING, _REPORTING = 0.6, 0.4


@dataclass(frozen=True, slots=True)
class Parts:
    """Rows of a sample: projections are fitted on the first, the choice is made on the second, its figures come from
    the third. by_groups: no group of the choice has an item in the report; else each group is divided."""

    fit: Rows
    choose: Rows
    report: Rows
    by_groups: bool


def split(truth: Truth, n_items: int) -> Parts:
    """truth: of the first len(truth) of n_items. What is not judged is fitted on; where that is too little, a third of
    the judged groups as well. Raises UsageError where a part would have nothing to ask."""
    n = len(truth)
    unjudged = np.arange(n, n_items)
    rng = np.random.default_rng(SEED + 1)
    shares = [_CHOOSING, _REPORTING]
    if len(unjudged) < _LEAST_TO_FIT:
        shares = [1 / 3, 1 / 3, 1 / 3]
    by_groups = len(np.unique(truth.groups)) >= FEW_GROUPS * len(shares)
    parts = divide(truth.groups, shares, rng) if by_groups else _within(truth.groups, shares, rng)
    choose, report = parts[-2:]
    fit = unjudged if len(parts) == 2 else np.sort(np.concatenate([parts[0], unjudged]))
    for rows in (choose, report):
        if not truth.some(rows).relevant.any():
            raise UsageError(
                f"{n} labelled items are too few: of the {len(rows)} in a part, no two are right for each other; "
                "label more items, several of each label"
            )
    return Parts(fit, choose, report, by_groups)


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


def _within(groups: Rows, shares: list[float], rng: np.random.Generator) -> list[Rows]:
    """Rows of which each part has its share of every group."""
    edges = np.cumsum([0.0, *shares])
    parts: list[list[int]] = [[] for _ in shares]
    for group in range(int(groups.max(initial=-1)) + 1):
        members = rng.permutation(np.flatnonzero(groups == group))
        cuts = np.rint(edges * len(members)).astype(int)
        for part, start, stop in zip(parts, cuts[:-1], cuts[1:], strict=True):
            part += members[start:stop].tolist()
    return [np.sort(np.array(part, np.int64)) for part in parts]
