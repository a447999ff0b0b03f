"""Products of unsigned and signed bytes, as the instruction that x86 processors with AVX-512-VNNI have for them.

`vpdpbusd` adds four neighbouring products to each of 16 sums of 32 bits; none of them overflows up to 65,000 products.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from embedsearch.compiled.matrix_ops import LANES, integer, spread

# a tile of the product: so many sums stay in registers, six rows of four vectors
ROWS, _VECTORS = 6, 4
COLUMNS = _VECTORS * LANES
TOGETHER = 4  # neighbouring bytes that make one sum

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_I32, LANES)


def pack(weights: Any) -> Any:
    """Signed bytes outputs x C as `tile` reads them: COLUMNS outputs after COLUMNS outputs, TOGETHER bytes of each
    after TOGETHER bytes of each. outputs: a multiple of COLUMNS; C: of TOGETHER."""
    n, width = weights.shape
    panels = weights.reshape(n // COLUMNS, COLUMNS, width // TOGETHER, TOGETHER)
    return np.ascontiguousarray(panels.transpose(0, 2, 1, 3)).reshape(-1)


@intrinsic
def tile(typing_context, rows, r_place, r_stride, weights, w_place, n_steps, starts, s_place, sums):
    """sums[q * COLUMNS + c] = starts[s_place + c] and, over i < n_steps * TOGETHER, rows[r_place + q * r_stride + i]
    times the weights of output c that `pack` put behind w_place, for each q < ROWS and c < COLUMNS.

    All arrays flat. rows: uint8. weights: int8. starts, sums: int32.
    """
    whole = types.intp
    signature = types.void(rows, whole, whole, weights, whole, whole, starts, whole, sums)

    def emit(context, builder, signature, arguments):
        def start(array: int, place: Any) -> Any:
            data = context.make_array(signature.args[array])(context, builder, arguments[array]).data
            return builder.gep(data, [place])

        def vector(origin: Any, offset: Any) -> Any:
            return builder.bitcast(builder.gep(origin, [offset]), _VECTOR.as_pointer())

        row_starts = [start(0, builder.add(arguments[1], builder.mul(arguments[2], integer(q)))) for q in range(ROWS)]
        panel, first, out = start(3, arguments[4]), start(6, arguments[7]), start(8, integer(0))
        firsts = [builder.load(vector(first, integer(v * LANES)), align=4) for v in range(_VECTORS)]
        dot_type = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        dot = builder.module.declare_intrinsic("llvm.x86.avx512.vpdpbusd.512", (), dot_type)
        before = builder.block
        loop, after = builder.append_basic_block("bytes"), builder.append_basic_block("bytes_done")
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(_I64)
        i.add_incoming(integer(0), before)
        totals = [[builder.phi(_VECTOR) for _ in range(_VECTORS)] for _ in range(ROWS)]
        step = builder.mul(i, integer(TOGETHER * COLUMNS))
        columns = [
            builder.load(vector(panel, builder.add(step, integer(v * TOGETHER * LANES))), align=4)
            for v in range(_VECTORS)
        ]
        grown = []
        for row, total in zip(row_starts, totals, strict=True):
            four = builder.bitcast(builder.gep(row, [builder.mul(i, integer(TOGETHER))]), _I32.as_pointer())
            bytes_of_row = spread(builder, builder.load(four, align=1))
            grown.append([builder.call(dot, [total[v], bytes_of_row, columns[v]]) for v in range(_VECTORS)])
        following = builder.add(i, integer(1))
        i.add_incoming(following, loop)
        for q in range(ROWS):
            for v in range(_VECTORS):
                totals[q][v].add_incoming(firsts[v], before)
                totals[q][v].add_incoming(grown[q][v], loop)
        builder.cbranch(builder.icmp_signed("<", following, arguments[5]), loop, after)
        builder.position_at_end(after)
        for q in range(ROWS):
            for v in range(_VECTORS):
                builder.store(grown[q][v], vector(out, integer(q * COLUMNS + v * LANES)), align=4)
        return context.get_dummy_value()

    return signature, emit
