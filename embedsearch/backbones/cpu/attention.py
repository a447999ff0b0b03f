"""Attention within each of many short texts that lie one after the other, compiled.

torch's own takes half of a pass over short texts: it calls a matrix product for every text and head. Here all of it
stays in the cache of one core.
"""

from __future__ import annotations

import numpy as np

from embedsearch.compiled.bfloat16 import narrow, widen
from embedsearch.compiled.compiling import compiled
from embedsearch.compiled.matrix_ops import COLUMNS, product_into

# the Taylor series of 2^x cut after x^5, for x in 0..1: off by 2e-6 of the value at most, bfloat16 by 4e-3
_C1, _C2, _C3, _C4, _C5 = (np.float32(c) for c in (0.6931472, 0.2402265, 0.05550411, 0.009618129, 0.0013333558))
_LOG2_E = np.float32(1.442695)
_LEAST = np.float32(-126.0)  # the lowest power of two of a float32 with all its digits


def _attend(query, key, value, starts, scale, out):
    """softmax(query @ key.T * scale) @ value for each text and head.

    query, key, value, out: the 16 bits of bfloat16, as uint16, tokens x heads x dim; dim: a multiple of COLUMNS.
    starts: where each text begins, and where the last one ends. Sums are float32.
    """
    n_heads, dim = query.shape[1], query.shape[2]
    longest = 0
    for text in range(len(starts) - 1):
        longest = max(longest, starts[text + 1] - starts[text])
    widest = (longest + COLUMNS - 1) // COLUMNS * COLUMNS
    q_bits, v_bits = np.empty(longest * dim, np.uint32), np.empty(longest * dim, np.uint32)
    k_bits = np.zeros(dim * widest, np.uint32)  # transposed: dim x width
    q, v, k = q_bits.view(np.float32), v_bits.view(np.float32), k_bits.view(np.float32)
    weights = np.empty(longest * widest, np.float32)
    power_bits = np.empty(longest * widest, np.int32)
    powers = power_bits.view(np.float32)
    sums = np.empty(longest * dim, np.float32)
    sum_bits = sums.view(np.uint32)
    stretch = np.float32(scale) * _LOG2_E
    for text in range(len(starts) - 1):
        first = starts[text]
        n = starts[text + 1] - first
        width = (n + COLUMNS - 1) // COLUMNS * COLUMNS
        for head in range(n_heads):
            for i in range(n):
                widen(query[first + i, head], q_bits[i * dim : (i + 1) * dim])
                widen(value[first + i, head], v_bits[i * dim : (i + 1) * dim])
                row, to = key[first + i, head], k_bits[i:]
                for d in range(dim):
                    to[d * width] = np.uint32(row[d]) << np.uint32(16)
            product_into(q, dim, n, k, dim, width, weights)
            for i in range(n):
                row = weights[i * width : (i + 1) * width]
                top = row[0]
                for j in range(n):
                    top = max(top, row[j])
                for j in range(width):  # beyond n stands what an earlier text left; it is not summed
                    row[j] = min(max((row[j] - top) * stretch, _LEAST), np.float32(0.0))
            for place in range(n * width):
                whole = np.floor(weights[place])
                x = weights[place] - whole
                power_bits[place] = (np.int32(whole) + np.int32(127)) << np.int32(23)
                weights[place] = np.float32(1.0) + x * (_C1 + x * (_C2 + x * (_C3 + x * (_C4 + x * _C5))))
            for place in range(n * width):
                weights[place] *= powers[place]
            for i in range(n):
                row = weights[i * width : i * width + n]
                total = np.float32(0.0)
                for j in range(n):
                    total += row[j]
                share = np.float32(1.0) / total
                for j in range(n):
                    row[j] *= share
            product_into(weights, width, n, v, n, dim, sums)
            for i in range(n):
                narrow(sum_bits[i * dim : (i + 1) * dim], out[first + i, head])


attend = compiled(_attend, fastmath=True, error_model="numpy")
