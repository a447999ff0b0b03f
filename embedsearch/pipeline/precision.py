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
    """precision: "float32" or "bfloat16". reason: for people."""

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
    if centred and len(exact) > 1:
        mean = exact.mean(axis=0)
        exact, rough = exact - mean, rough - mean
    least = float(np.min(np.sum(l2_normalize(exact) * l2_normalize(rough), axis=1)))
    shown = math.floor(least * 1e5) / 1e5 if math.isfinite(least) else least  # what is promised is not rounded up
    about = f"cosine to float32 {min(shown, 0.99999):.5f} or more on a first batch of {len(exact)}"
    if least >= LEAST_COSINE:  # NaN is not
        return Choice("bfloat16", about)
    return Choice("float32", f"bfloat16 changes vectors too much: a cosine to float32 of {least:.5f} in a first batch")
