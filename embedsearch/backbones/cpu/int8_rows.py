"""Rows of bfloat16 as rows of bytes and back, compiled: what stands before and after a product of 8-bit integers.

Rows of bfloat16 are given as their 16 bits, uint16 n x C.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from embedsearch.compiled.bfloat16 import narrow, widen
from embedsearch.compiled.compiling import compiled

MIDDLE = 128  # the byte that stands for the middle of a row's range
_LEAST_STEP = np.float32(1e-20)  # of a row of one value
# the normal distribution function between 0 and 4, less a half, over x: a polynomial in x * x that keeps x * Phi(x) to
# 4e-5 (minimax, by linear programming), where bfloat16 keeps 4e-3 of it
_BEYOND = np.float32(4.0)
_P0, _P1, _P2, _P3 = (np.float32(c) for c in (0.39867339, -0.065887797, 0.0095053695, -0.0010064833))
_P4, _P5, _P6, _P7 = (np.float32(c) for c in (7.4854151e-05, -3.6570727e-06, 1.0419397e-07, -1.3012656e-09))


@njit(inline="always", fastmath=True, error_model="numpy")
def _folded(best_of, x):
    """`best_of` (min or max) over x, which is written over: halves against halves, as vectors. LLVM has no vectors for
    a minimum over a loop, which takes most of the time then."""
    half = len(x)
    while half % 2 == 0 and half > 8:
        half //= 2
        left, right = x[:half], x[half : 2 * half]
        for c in range(half):
            left[c] = best_of(left[c], right[c])
    best = x[0]
    for c in range(half):
        best = best_of(best, x[c])
    return best


def _to_bytes(rows, shrink, out, steps, middles):
    """Row r times `shrink` is middles[r] + steps[r] * (out[r] - MIDDLE), off by half a step at most.

    rows: C even. shrink: float32 C. out: uint8 n x C. steps, middles: float32 n.
    """
    n, width = rows.shape
    bits = np.empty(width, np.uint32)
    x = bits.view(np.float32)
    low, high = np.empty(width // 2, np.float32), np.empty(width // 2, np.float32)
    for r in range(n):
        to = out[r]
        widen(rows[r], bits)
        for c in range(width):
            x[c] *= shrink[c]
        left, right = x[: width // 2], x[width // 2 :]
        for c in range(width // 2):
            low[c], high[c] = min(left[c], right[c]), max(left[c], right[c])
        least, most = _folded(min, low), _folded(max, high)
        middle = np.float32(0.5) * (least + most)
        step = max((most - least) * np.float32(1.0 / 255.0), _LEAST_STEP)
        steps[r], middles[r] = step, middle
        inverse = np.float32(1.0) / step
        shift = np.float32(128.5) - middle * inverse
        for c in range(width):  # 1 at the least, 256 at the most
            to[c] = np.uint8(np.int32(min(x[c] * inverse + shift, np.float32(255.0))))


to_bytes = compiled(_to_bytes, fastmath=True, error_model="numpy")


def _from_products(products, steps, middles, sums, bias, out):
    """Row r of `out`: steps[r] * products[r] + middles[r] * sums + bias.

    products: float32 n x C. out: n x C. sums, bias: float32 C.
    """
    n, width = products.shape
    bits = np.empty(width, np.uint32)
    x = bits.view(np.float32)
    for r in range(n):
        row, step, middle = products[r], steps[r], middles[r]
        for c in range(width):
            x[c] = row[c] * step + (middle * sums[c] + bias[c])
        narrow(bits, out[r])


from_products = compiled(_from_products, fastmath=True, error_model="numpy")


def _from_products_and(products, steps, middles, sums, bias, out, others):
    """The same, and `others`, n x C, added."""
    n, width = products.shape
    bits, other_bits = np.empty(width, np.uint32), np.empty(width, np.uint32)
    x, other = bits.view(np.float32), other_bits.view(np.float32)
    for r in range(n):
        row, step, middle = products[r], steps[r], middles[r]
        widen(others[r], other_bits)
        for c in range(width):
            x[c] = row[c] * step + (middle * sums[c] + bias[c]) + other[c]
        narrow(bits, out[r])


from_products_and = compiled(_from_products_and, fastmath=True, error_model="numpy")


def _gelu_from_products(products, steps, middles, sums, bias, out):
    """`from_products`, and GELU over it."""
    n, width = products.shape
    bits = np.empty(width, np.uint32)
    x = bits.view(np.float32)
    for r in range(n):
        row, step, middle = products[r], steps[r], middles[r]
        for c in range(width):
            y = row[c] * step + (middle * sums[c] + bias[c])
            z = min(max(y, -_BEYOND), _BEYOND)
            s = z * z
            high = _P4 + s * (_P5 + s * (_P6 + s * _P7))
            x[c] = y * (np.float32(0.5) + z * (_P0 + s * (_P1 + s * (_P2 + s * (_P3 + s * high)))))
        narrow(bits, out[r])


gelu_from_products = compiled(_gelu_from_products, fastmath=True, error_model="numpy")
