"""Products of BERT's blocks in 8-bit integers: twice as many a second as in bfloat16, where the processor has VNNI.

Inputs: a step and a middle for each row (each token), so that a text's vector does not depend on its batch. Weights: a
step for each output. Channels that reach far are first shrunk and their weights stretched in turn (SmoothQuant, Xiao et
al. 2023, with its exponent of a half). What some channel reaches too far for even so, the last product of some blocks,
stays in bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embedsearch.backbones.tap import Inputs, run_to

_EXPONENT = 0.4  # TODO
# how far the farthest channel may reach, to their median. Of those of MiniLM some reach 4 to 5 times as far, others 14
# to 26 times, and 8 bits change vectors by them more than by all else
_MOST_REACH = 8.0
_ROWS = 512  # at once: so many float32 sums stay in a core's own cache, or near it
_FLOOR = 1e-6  # of what is divided by: a channel that is always 0, an output without weights


@cache
def can_multiply_int8() -> bool:
    """Whether this processor and this torch have fast products of 8-bit integers with sums that do not overflow."""
    if not torch.cpu._is_vnni_supported():
        return False
    try:
        packed = torch.ops.onednn.qlinear_prepack(torch.ones((1, 1), dtype=torch.int8), None)
        _product(torch.zeros((1, 1), dtype=torch.uint8), packed, torch.ones(1))
    except (RuntimeError, NotImplementedError, AttributeError):  # it was built without
        return False
    return True


def _product(x: torch.Tensor, packed: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """(x - MIDDLE) @ weights.T * steps, in float32."""
    from embedsearch.backbones.cpu.int8_rows import MIDDLE

    zeros = torch.zeros(len(steps), dtype=torch.int64)
    product: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
        x, 1.0, MIDDLE, packed, steps, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return product


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of bytes: x is about middles + steps * (values - MIDDLE). values: uint8 n x C; steps, middles: n."""

    values: torch.Tensor
    steps: NDArray[np.float32]
    middles: NDArray[np.float32]

    @classmethod
    def of(cls, x: torch.Tensor, shrink: NDArray[np.float32]) -> Self:
        """x: bfloat16 n x C, its channels times `shrink`."""
        from embedsearch.backbones.cpu.int8_rows import to_bytes

        rows = cls(torch.empty(x.shape, dtype=torch.uint8), np.empty(len(x), np.float32), np.empty(len(x), np.float32))
        to_bytes(_bits(x), shrink, rows.values.numpy(), rows.steps, rows.middles)
        return rows


class Int8Linear:
    """A linear layer with weights of 8 bits, over rows of bytes."""

    def __init__(self, linear: nn.Linear, stretch: torch.Tensor) -> None:
        """linear: in float32. stretch: of each channel, what it was shrunk by."""
        weight = linear.weight.detach() * stretch
        self._steps = (weight.abs().amax(dim=1) / 127).clamp(min=_FLOOR)
        values = (weight / self._steps[:, None]).round().to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(values, None)
        self._sums: Any = (values.sum(dim=1) * self._steps).numpy()
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach().clone()
        self._bias: Any = bias.numpy()

    def __call__(self, rows: Rows) -> torch.Tensor:
        """bfloat16 n x outputs."""
        from embedsearch.backbones.cpu.int8_rows import from_products

        return self._finished(rows, from_products)

    def plus(self, rows: Rows, other: torch.Tensor) -> torch.Tensor:
        """The same and `other`, of its shape, added."""
        from embedsearch.backbones.cpu.int8_rows import from_products_and

        return self._finished(rows, from_products_and, other)

    def with_gelu(self, rows: Rows) -> torch.Tensor:
        """The same with GELU over it."""
        from embedsearch.backbones.cpu.int8_rows import gelu_from_products

        return self._finished(rows, gelu_from_products)

    def _finished(self, rows: Rows, finish: Any, *others: torch.Tensor) -> torch.Tensor:
        n = len(rows.values)
        out = torch.empty((n, len(self._steps)), dtype=torch.bfloat16)
        bits = [_bits(x) for x in (out, *others)]
        for start in range(0, n, _ROWS):
            part = slice(start, min(start + _ROWS, n))
            product = _product(rows.values[part], self._packed, self._steps).numpy()
            finish(product, rows.steps[part], rows.middles[part], self._sums, self._bias, *(b[part] for b in bits))
        return out


def _bits(x: torch.Tensor) -> Any:
    """The memory of a bfloat16 tensor as numpy's uint16."""
    return x.view(torch.uint16).numpy()


class _Reading:
    """Linear layers that read the same."""

    def __init__(self, linears: Sequence[nn.Linear], reach: torch.Tensor) -> None:
        """reach: the largest absolute value of each channel that they read."""
        weights = torch.cat([linear.weight.detach() for linear in linears]).square().mean(dim=0).sqrt()
        stretch = reach.clamp(min=_FLOOR) ** _EXPONENT / weights.clamp(min=_FLOOR) ** (1 - _EXPONENT)
        self._shrink = (1 / stretch).numpy()
        self.linears = [Int8Linear(linear, stretch) for linear in linears]

    def rows(self, x: torch.Tensor) -> Rows:
        return Rows.of(x, self._shrink)


class Int8Products:
    """Those of a block in float32."""

    def __init__(self, block: Any, reaches: Sequence[torch.Tensor]) -> None:
        """reaches: of what is read by its attention, by what follows that, by its wide product, and by its last."""
        attention = block.attention.self
        self._looking = _Reading((attention.query, attention.key), reaches[0])
        self._seen = _Reading((attention.value,), reaches[0])  # shrunk for its own weights, it is off by half as much
        self._after = _Reading((block.attention.output.dense,), reaches[1])
        self._wide = _Reading((block.intermediate.dense,), reaches[2])
        self._output = block.output
        fits = bool(reaches[3].max() <= _MOST_REACH * reaches[3].median())
        self._last = _Reading((block.output.dense,), reaches[3]) if fits else None

    def query_key_value(self, x: torch.Tensor) -> Sequence[torch.Tensor]:
        return [linear(rows) for group in (self._looking, self._seen) for rows in [group.rows(x)] for linear in group.linears]

    def after_attention(self, mixed: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self._after.linears[0].plus(self._after.rows(mixed), x)

    def widened(self, x: torch.Tensor) -> torch.Tensor:
        return self._wide.linears[0].with_gelu(self._wide.rows(x))

    def narrowed(self, wide: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        if self._last is not None:
            return self._last.linears[0].plus(self._last.rows(wide), x)
        product: torch.Tensor = self._output.dense.plus(wide, x)  # which has been packed since
        return product


def int8_products(module: Any, examples: Iterable[Inputs]) -> list[Int8Products]:
    """Those of every block of a network of BERT's build, in float32, which `examples` are read through for the reach of
    its channels."""
    blocks = list(module.encoder.layer)
    reading = [
        (b.attention.self.query, b.attention.output.dense, b.intermediate.dense, b.output.dense) for b in blocks
    ]
    reaches = _reaches(module, blocks[-1], [linear for linears in reading for linear in linears], examples)
    return [Int8Products(block, reaches[4 * n : 4 * n + 4]) for n, block in enumerate(blocks)]


def _reaches(module: nn.Module, last: nn.Module, linears: Sequence[nn.Linear], examples: Any) -> list[torch.Tensor]:
    found = [torch.zeros(linear.in_features) for linear in linears]

    def noting(place: int) -> Any:
        def note(_module: nn.Module, args: Any) -> None:
            found[place] = torch.maximum(found[place], args[0].abs().amax(dim=tuple(range(args[0].ndim - 1))))

        return note

    handles = [linear.register_forward_pre_hook(noting(place)) for place, linear in enumerate(linears)]
    try:
        with torch.inference_mode():
            for inputs in examples:
                run_to(module, inputs, {"last": last}, {"last": 1})
    finally:
        for handle in handles:
            handle.remove()
    return found
