"""bfloat16, which numpy does not know, within compiled loops: its 16 bits are the upper half of a float32's 32."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(inline="always")
def widen(halves, bits):
    """halves: uint16 n. bits: uint32 n, to be viewed as float32."""
    for i in range(len(halves)):
        bits[i] = np.uint32(halves[i]) << np.uint32(16)


@njit(inline="always")
def narrow(bits, halves):
    """The way back, rounded to the nearest, halves to even; NaN, and what rounds to infinity, are not looked for."""
    for i in range(len(halves)):
        odd = (bits[i] >> np.uint32(16)) & np.uint32(1)
        halves[i] = (bits[i] + np.uint32(0x7FFF) + odd) >> np.uint32(16)
