"""Whether a network may compute with half the bits: decided by what that does to the vectors of a first batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from embedsearch.vectors import Matrix, l2_normalize

LEAST_COSINE = 0.999  # of each vector in bfloat16 to the same in float32
# inputs of the first batch that are compared, and how many are looked at for as many that can be read
N_COMPARED, N_LOOKED_AT = 8, 32


@dataclass(frozen=True, slots=True)
class Choice:
    """precision: "float32", "bfloat16" or "int8". reason: for people."""

    precision: str
    reason: str


FLOAT32_ONLY = Choice("float32", "no bfloat16 on this device for this network")
NOTHING_READ = Choice("float32", "no input of a first batch could be read to compare with bfloat16")


def choose_precision(exact: Matrix, rough: Matrix, *, centred: bool) -> Choice:
    """bfloat16 where each row of `rough` (in bfloat16) has a cosine of at least LEAST_COSINE to that of `exact`.

    centred: compares what is left without the mean, as a projection will.
    """
    if not len(exact):
        return NOTHING_READ
    least = _least_cosine(exact, rough, centred)
    if least >= LEAST_COSINE:  # NaN is not
        return Choice("bfloat16", _or_more(least, len(exact)))
    return Choice("float32", f"bfloat16 changes vectors too much: a cosine to float32 of {least:.5f} in a first batch")


def told_of(precision: str, exact: Matrix, rough: Matrix, *, centred: bool) -> Choice:
    """The precision that was asked for, with what it does to vectors (`exact` in float32, `rough` in it)."""
    if not len(exact):
        return Choice(precision, "as asked for; no input of a first batch could be read to compare with float32")
    least = _least_cosine(exact, rough, centred)
    if least >= LEAST_COSINE:
        return Choice(precision, f"as asked for; {_or_more(least, len(exact))}")
    return Choice(
        precision,
        f"as asked for, but it changes vectors: a cosine to float32 of {least:.5f} in a first batch, where auto wants "
        f"{LEAST_COSINE}",
    )


def _least_cosine(exact: Matrix, rough: Matrix, centred: bool) -> float:
    if centred and len(exact) > 1:
        mean = exact.mean(axis=0)
        exact, rough = exact - mean, rough - mean
    return float(np.min(np.sum(l2_normalize(exact) * l2_normalize(rough), axis=1)))


def _or_more(least: float, n: int) -> str:
    shown = math.floor(least * 1e5) / 1e5  # what is promised is not rounded up
    return f"cosine to float32 {min(shown, 0.99999):.5f} or more on a first batch of {n}"
