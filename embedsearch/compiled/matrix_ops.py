"""A matrix product, as vector instructions that LLVM fits to the processor at hand.

Numba's own loops take twice the time for it, and numpy's BLAS the processor from others (see prepare.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

# a tile of the product: so many sums stay in registers, four rows of two vectors
_ROWS, _VECTORS, LANES = 4, 2, 16
COLUMNS = _VECTORS * LANES

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_F32, LANES)


def integer(value: int) -> Any:
    """A constant of 64 bits."""
    return ir.Constant(_I64, value)


def spread(builder: Any, number: Any) -> Any:
    """A vector of LANES times the same number."""
    undefined = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, LANES), None))


@intrinsic
def _tile(typing_context, weights, w_place, w_stride, rows, r_place, r_stride, n, sums, s_place, s_stride):
    """sums[s_place + q * s_stride :][:COLUMNS] = the sum over i < n of weights[w_place + q * w_stride + i] times
    rows[r_place + i * r_stride :][:COLUMNS], for each q < _ROWS. All arrays: float32, flat."""
    whole = types.intp
    signature = types.void(weights, whole, whole, rows, whole, whole, whole, sums, whole, whole)

    def emit(context, builder, signature, arguments):
        def start(array: int, stride: int, row: int) -> Any:
            data = context.make_array(signature.args[array])(context, builder, arguments[array]).data
            place = builder.add(arguments[array + 1], builder.mul(arguments[stride], integer(row)))
            return builder.gep(data, [place])

        def vector(row: Any, number: int) -> Any:
            return builder.bitcast(builder.gep(row, [integer(number * LANES)]), _VECTOR.as_pointer())

        fma_type = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        fma = builder.module.declare_intrinsic(f"llvm.fma.v{LANES}f32", (), fma_type)
        starts, first_row = [start(0, 2, q) for q in range(_ROWS)], start(3, 5, 0)
        before = builder.block
        loop, after = builder.append_basic_block("tile"), builder.append_basic_block("tile_done")
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(_I64)
        i.add_incoming(integer(0), before)
        totals = [[builder.phi(_VECTOR) for _ in range(_VECTORS)] for _ in range(_ROWS)]
        row = builder.gep(first_row, [builder.mul(i, arguments[5])])
        columns = [builder.load(vector(row, number), align=4) for number in range(_VECTORS)]
        grown = []
        for place, total in zip(starts, totals, strict=True):
            weight = spread(builder, builder.load(builder.gep(place, [i])))
            grown.append([builder.call(fma, [weight, columns[v], total[v]]) for v in range(_VECTORS)])
        following = builder.add(i, integer(1))
        i.add_incoming(following, loop)
        for q in range(_ROWS):
            for v in range(_VECTORS):
                totals[q][v].add_incoming(ir.Constant(_VECTOR, None), before)
                totals[q][v].add_incoming(grown[q][v], loop)
        builder.cbranch(builder.icmp_signed("<", following, arguments[6]), loop, after)
        builder.position_at_end(after)
        for q in range(_ROWS):
            for v in range(_VECTORS):
                builder.store(grown[q][v], vector(start(7, 9, q), v), align=4)
        return context.get_dummy_value()

    return signature, emit


def _extreme(predicate: str, reduction: str) -> Any:
    """An intrinsic for the largest or the least of x[place : place + n], float32, flat, without NaN; n: a multiple of
    LANES above 0. LLVM makes vectors of such a loop of numba's for sums only."""

    @intrinsic
    def extreme(typing_context, x, place, n):
        signature = types.float32(x, types.intp, types.intp)

        def emit(context, builder, signature, arguments):
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            start = builder.gep(data, [arguments[1]])

            def vector(offset: Any) -> Any:
                pointer = builder.bitcast(builder.gep(start, [offset]), _VECTOR.as_pointer())
                return builder.load(pointer, align=4)

            before, first = builder.block, vector(integer(0))
            loop, after = builder.append_basic_block("extreme"), builder.append_basic_block("extreme_done")
            builder.branch(loop)
            builder.position_at_end(loop)
            i, best = builder.phi(_I64), builder.phi(_VECTOR)
            i.add_incoming(integer(0), before)
            best.add_incoming(first, before)
            other = vector(i)
            better = builder.select(builder.fcmp_ordered(predicate, other, best, flags=["fast"]), other, best)
            following = builder.add(i, integer(LANES))
            i.add_incoming(following, loop)
            best.add_incoming(better, loop)
            builder.cbranch(builder.icmp_signed("<", following, arguments[2]), loop, after)
            builder.position_at_end(after)
            reduce_type = ir.FunctionType(_F32, [_VECTOR])
            name = f"llvm.vector.reduce.{reduction}.v{LANES}f32"
            reduce = builder.module.declare_intrinsic(name, (), reduce_type)
            return builder.call(reduce, [better], fastmath=["nnan"])

        return signature, emit

    return extreme


largest, least = _extreme(">", "fmax"), _extreme("<", "fmin")


@njit(inline="always")
def product_into(weights, w_stride, n, rows, n_rows, m, sums):
    """sums[: n * m] as n x m = weights @ rows[: n_rows * m] as n_rows x m; weights: n rows of n_rows that are w_stride
    apart. All flat float32; m: a multiple of COLUMNS; n_rows: above 0."""
    # fewer rows than a tile has are the same one again and again; the last tile may repeat rows of the one before
    w_step, s_step = (w_stride, m) if n >= _ROWS else (0, 0)
    for start in range(0, n, _ROWS if n >= _ROWS else 1):
        q = np.intp(start if n < _ROWS else min(start, n - _ROWS))
        for column in range(0, m, COLUMNS):
            _tile(weights, q * w_stride, w_step, rows, column, m, n_rows, sums, q * m + column, s_step)


@njit(inline="always")
def product(weights, rows, sums):
    """sums (n x m) = weights[:, : len(rows)] @ rows (d x m), all float32 in C order. m: a multiple of COLUMNS; d: above
    0."""
    product_into(
        weights.reshape(-1), weights.shape[1], len(weights),
        rows.reshape(-1), len(rows), rows.shape[1], sums.reshape(-1),
    )  # fmt: skip
