"""The innermost loops, as vector instructions that LLVM fits to the processor at hand.

Numba's own integer arithmetic widens to 64 bits, which costs these loops eight times their speed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from embedsearch.index.graph.codes import LANES  # bytes that are taken at once

LINE_BYTES = 64  # of a processor's cache

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


def _address(context: Any, builder: Any, array_type: Any, array: Any, place: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [place]), _I8.as_pointer())


@intrinsic
def l2_bytes(typing_context, a, a_place, b, b_place, width):
    """Squared Euclidean distance, int32, of the bytes a[a_place:][:width] and b[b_place:][:width].

    width: a multiple of LANES above 0, below 33,000.
    """
    signature = types.int32(a, types.intp, b, types.intp, types.intp)

    def emit(context, builder, signature, arguments):
        first = _address(context, builder, signature.args[0], arguments[0], arguments[1])
        second = _address(context, builder, signature.args[2], arguments[2], arguments[3])
        bytes_type, words = ir.VectorType(_I8, LANES), ir.VectorType(_I16, LANES)
        sums = ir.VectorType(_I32, LANES // 2)

        def half(vector: Any, odd: int) -> Any:
            chosen = [ir.Constant(_I32, 2 * lane + odd) for lane in range(LANES // 2)]
            picked = builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(_I32, LANES // 2), chosen))
            return builder.sext(picked, sums)

        before = builder.block
        loop, after = builder.append_basic_block("l2"), builder.append_basic_block("l2_done")
        builder.branch(loop)
        builder.position_at_end(loop)
        place, total = builder.phi(_I64), builder.phi(sums)
        place.add_incoming(ir.Constant(_I64, 0), before)
        total.add_incoming(ir.Constant(sums, None), before)
        x, y = (
            builder.zext(
                builder.load(builder.bitcast(builder.gep(p, [place]), bytes_type.as_pointer()), align=1), words
            )
            for p in (first, second)
        )
        difference = builder.sub(x, y)
        even, odd = half(difference, 0), half(difference, 1)
        # this very pattern becomes one multiply-and-add instruction (vpmaddwd on x86)
        grown = builder.add(total, builder.add(builder.mul(even, even), builder.mul(odd, odd)))
        following = builder.add(place, ir.Constant(_I64, LANES))
        place.add_incoming(following, loop)
        total.add_incoming(grown, loop)
        builder.cbranch(builder.icmp_signed("<", following, arguments[4]), loop, after)
        builder.position_at_end(after)
        reduce_type = ir.FunctionType(_I32, [sums])
        reduce = builder.module.declare_intrinsic(f"llvm.vector.reduce.add.v{LANES // 2}i32", (), reduce_type)
        return builder.call(reduce, [grown])

    return signature, emit


@intrinsic
def _prefetch_line(typing_context, array, place):
    signature = types.void(array, types.intp)

    def emit(context, builder, signature, arguments):
        address = _address(context, builder, signature.args[0], arguments[0], arguments[1])
        pointer = _I8.as_pointer()
        function_type = ir.FunctionType(ir.VoidType(), [pointer, _I32, _I32, _I32])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], function_type)
        read, all_levels, data = (ir.Constant(_I32, number) for number in (0, 3, 1))
        builder.call(function, [address, read, all_levels, data])
        return context.get_dummy_value()

    return signature, emit


@njit(inline="always")
def prefetch(array, place, n_values, n_bytes):
    """Asks the memory for array[place:][:n_values] ahead of its use; n_bytes: of one value."""
    for step in range(0, n_values, LINE_BYTES // n_bytes):
        _prefetch_line(array, place + step)


@njit(fastmath=True)  # not inlined by numba itself: the caller sums strictly in order
def dot(values, place, weights, offset):
    """Inner product, float32, of small integers values[place:][:len(weights)] less `offset` with float weights."""
    taken = values[place : place + len(weights)]  # so that no place can be negative, and the loop becomes vectors
    total = np.float32(0.0)
    for lane in range(len(weights)):
        total += weights[lane] * (np.float32(taken[lane]) - offset)
    return total
