"""How many lists are scanned and how many candidates ranked, for what is asked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NPROBE, K_FACTOR = 32, 8
# (nprobe, k_factor) for ten answers: each misses about as many by its lists as by its codes, over text embeddings
# (MiniLM, 384-d), pictures (VGG16, 512-d) and words (GloVe, 50-d)
_LADDER = (
    (1, 2), (2, 2), (3, 3), (4, 3), (6, 4), (8, 4), (12, 6), (16, 6), (24, 8), (32, 8), (48, 10), (64, 12), (96, 16),
    (128, 16), (192, 24), (256, 32), (384, 32), (512, 48), (768, 64), (1024, 64), (2048, 96), (4096, 128),
)  # fmt: skip
_LADDER_K = 10
_LAST_K_FACTOR = 128  # with all lists
# reading a vector, and comparing all of it, takes the time of comparing about so many codes
ROW_COST = 4
# lists that are scanned hold this many times the rows that are asked for, for lists are not of one length
_SPARE = 2
# at least so many lists are looked at, and such a part of the share of all lists tells a query that lies apart
_NEAREST, _APART_SHARE = 4, 0.75


@dataclass(frozen=True, slots=True)
class Plan:
    """A search: lists that are scanned, candidates that are ranked."""

    nprobe: int
    n_candidates: int


def plan_search(k: int, nprobe: int, n_candidates: int, n_lists: int, n: int, n_allowed: int) -> Plan | None:
    """The search for k of n_allowed rows (of n) by ranking n_candidates; None where it takes less to read all of them.

    Where only some rows are allowed, as many more lists are scanned, so that as many of those are met; and always
    enough for k answers.
    """
    candidates = min(max(n_candidates, k), n_allowed)
    # more answers lie in more lists: the neighbourhood that holds them grows
    probed = nprobe * max(k / _LADDER_K, 1.0) ** 0.5
    probed = max(probed * n / n_allowed, _SPARE * k * n_lists / n_allowed)
    probed = min(math.ceil(probed), n_lists)
    codes = n * probed / n_lists
    if ROW_COST * n_allowed <= codes + ROW_COST * candidates:
        return None
    return Plan(probed, candidates)


def lists_needed(
    ranked: NDArray[np.int64], n_allowed_in: NDArray[np.int64], k: int, nprobe: int, n: int
) -> NDArray[np.int64]:
    """How many of its nearest lists each query has to scan to meet as many allowed rows as nprobe lists hold.

    ranked: int64 n_queries x n_lists, nearest first. n_allowed_in: int64, of each list. Where the allowed rows lie
    elsewhere than the query, these are more than its share of all rows would tell.
    """
    n_lists = ranked.shape[1]
    rows = max(nprobe * max(k / _LADDER_K, 1.0) ** 0.5 * n / n_lists, _SPARE * k)
    met = n_allowed_in[ranked].cumsum(axis=1)
    needed: NDArray[np.int64] = (met < rows).sum(axis=1) + 1
    return np.minimum(needed, n_lists)


def lie_apart(
    ranked: NDArray[np.int64], n_in: NDArray[np.int64], n_allowed_in: NDArray[np.int64], nprobe: int
) -> NDArray[np.bool_]:
    """Whether a query's nearest lists hold much fewer allowed rows than other lists do: what is nearest to it among
    those lies as far in one list as in another.

    n_in: int64, the rows of each list; see `lists_needed` for the others.
    """
    nearest = ranked[:, : max(nprobe, _NEAREST)]
    share = n_allowed_in.sum() / max(n_in.sum(), 1)
    apart: NDArray[np.bool_] = n_allowed_in[nearest].sum(axis=1) < _APART_SHARE * share * n_in[nearest].sum(axis=1)
    return apart


def usual_candidates(k: int, k_factor: int) -> int:
    """How many are ranked for k answers: for fewer than ten as many as for ten, for which k_factor was measured."""
    return max(k, _LADDER_K) * k_factor


def efforts(k: int, n_lists: int) -> list[dict[str, int]]:
    """Search parameters for k answers, from the cheapest to all lists."""
    share = math.sqrt(_LADDER_K / max(k, 1))  # more answers need fewer candidates each
    below = [(nprobe, max(math.ceil(k_factor * share), 2)) for nprobe, k_factor in _LADDER if nprobe < n_lists]
    last = (n_lists, max(math.ceil(_LAST_K_FACTOR * share), 2))
    return [{"nprobe": nprobe, "k_factor": k_factor} for nprobe, k_factor in [*below, last]]
