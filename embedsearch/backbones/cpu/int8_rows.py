"""Rows of bfloat16 as rows of bytes, and their products with weights of 8 bits as bfloat16 again, compiled.

Rows of bfloat16 are given as their 16 bits, uint16 n x C.
"""

from __future__ import annotations

import numpy as np

from embedsearch.backbones.cpu.int8_tile import COLUMNS, ROWS, TOGETHER, tile
from embedsearch.compiled.bfloat16 import narrow, widen
from embedsearch.compiled.compiling import compiled
from embedsearch.compiled.matrix_ops import largest, least

MIDDLE = 128  # the byte that stands for the middle of a row's range
APART = 4  # channels of a row that are kept beside its bytes
PARTS = 2 + APART
_BLOCK = 192  # rows that stay in the cache while all weights go by; a multiple of ROWS
_EXPONENT, _NAN = np.uint16(0x7F80), np.float32(np.nan)
_LEAST_STEP = np.float32(1e-20)  # of a row of one value
# the normal distribution function, less a half, over x, up to where it is taken for 1: a polynomial in x * x that keeps
# x * Phi(x) to 8e-5 (minimax, by linear programming) for x up to 100, where bfloat16 keeps 4e-3 of it
_BEYOND = np.float32(4.2)
_P0, _P1, _P2, _P3 = (np.float32(c) for c in (0.3984659, -0.065528251, 0.009298251, -0.00095066242))
_P4, _P5, _P6, _P7 = (np.float32(c) for c in (6.6891327e-05, -3.0379779e-06, 7.9415173e-08, -9.0178087e-10))


def _to_bytes(rows, shrink, apart, out, parts):
    """Row r times `shrink` is parts[1, r] + parts[0, r] * (out[r] - MIDDLE), off by half a step at most, but for the
    channels `apart`: those are parts[2:, r], not shrunk, and 0 in there.

    A row that is not finite becomes NaN. rows: n x C, C a multiple of LANES. shrink: float32 C. apart: int64 APART.
    out: uint8 n x C. parts: float32 PARTS x n.
    """
    n, width = rows.shape
    bits = np.empty(width, np.uint32)
    x = bits.view(np.float32)
    for r in range(n):
        row, to = rows[r], out[r]
        n_broken = np.int32(0)  # not finite: all ones in the exponent
        for c in range(width):
            n_broken += np.int32((row[c] & _EXPONENT) == _EXPONENT)
        widen(row, bits)
        for j in range(APART):
            parts[2 + j, r] = x[apart[j]]
            x[apart[j]] = np.float32(0.0)
        for c in range(width):
            x[c] *= shrink[c]
        low, high = least(x, 0, width), largest(x, 0, width)
        middle = np.float32(0.5) * (low + high)
        step = max((high - low) * np.float32(1.0 / 255.0), _LEAST_STEP)
        parts[0, r], parts[1, r] = _NAN if n_broken else step, middle
        inverse = np.float32(1.0) / step
        shift = np.float32(128.5) - middle * inverse
        for c in range(width):  # 1 at the least, 256 at the most
            to[c] = np.uint8(np.int32(min(x[c] * inverse + shift, np.float32(255.0))))


to_bytes = compiled(_to_bytes, fastmath=True, error_model="numpy")


def _multiply(values, parts, packed, starts, lines, others, with_gelu, out):
    """out = the rows behind values and parts (see `to_bytes`) times the weights behind packed and lines, and bias.

    values: uint8 n x C. packed: int8, by `pack`. starts: int32 outputs, what sums begin with: minus MIDDLE times the
    bytes of its weights. lines: float32 1 + PARTS x outputs: what a byte of its weights stands for, its bias, the sum
    of its weights, those for the channels apart. others: n x outputs, added as well; 0 x outputs for nothing.
    with_gelu: over all that. out: n x outputs.
    """
    n, width = values.shape
    flat = values.reshape(-1)
    sums = np.empty(ROWS * COLUMNS, np.int32)
    bits, other_bits = np.empty(COLUMNS, np.uint32), np.zeros(COLUMNS, np.uint32)
    x, other = bits.view(np.float32), other_bits.view(np.float32)
    n_rows, stride = (ROWS, width) if n >= ROWS else (1, 0)  # fewer are the same one again and again
    for block in range(0, n, _BLOCK):
        end = min(block + _BLOCK, n)
        for left in range(0, out.shape[1], COLUMNS):
            outputs = slice(left, left + COLUMNS)
            step, bias, total = lines[0, outputs], lines[1, outputs], lines[2, outputs]
            w1, w2, w3, w4 = lines[3, outputs], lines[4, outputs], lines[5, outputs], lines[6, outputs]
            for start in range(block, end, n_rows):
                first = max(min(start, n - n_rows), 0)  # the last tile may repeat rows of the one before
                tile(flat, first * width, stride, packed, left * width, width // TOGETHER, starts, left, sums)
                for q in range(n_rows):
                    r = first + q
                    row, own_step, middle = sums[q * COLUMNS : (q + 1) * COLUMNS], parts[0, r], parts[1, r]
                    x1, x2, x3, x4 = parts[2, r], parts[3, r], parts[4, r], parts[5, r]
                    for c in range(COLUMNS):
                        beside = x1 * w1[c] + x2 * w2[c] + x3 * w3[c] + x4 * w4[c]
                        x[c] = np.float32(row[c]) * (own_step * step[c]) + middle * total[c] + bias[c] + beside
                    if len(others) > 0:
                        widen(others[r, outputs], other_bits)
                        for c in range(COLUMNS):
                            x[c] += other[c]
                    if with_gelu:
                        for c in range(COLUMNS):
                            z = min(max(x[c], -_BEYOND), _BEYOND)
                            s = z * z
                            high = _P4 + s * (_P5 + s * (_P6 + s * _P7))
                            x[c] *= np.float32(0.5) + z * (_P0 + s * (_P1 + s * (_P2 + s * (_P3 + s * high))))
                    narrow(bits, out[r, outputs])


multiply = compiled(_multiply, fastmath=True, error_model="numpy")
