"""Products of BERT's blocks in 8-bit integers, of which AVX-512-VNNI does twice as many as AVX-512-BF16.

Inputs: a step and a middle for each row (each token), so that a text's vector does not depend on its batch. Weights: a
step for each output. Channels that reach far are first shrunk and their weights stretched in turn (SmoothQuant, Xiao et
al. 2023), and a few that reach farthest stay beside them (as in LLM.int8(), Dettmers et al. 2022). The last product of
a block stays in bfloat16: single channels of its input reach many times as far as others, and differ from text to text.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embedsearch.backbones.cpu.packed_texts import bits_of
from embedsearch.backbones.tap import Inputs, run_to

# how much of the reach of a channel goes over to its weights: with SmoothQuant's own half these are less exact than the
# inputs, with 0.3 the inputs are
_EXPONENT = 0.4
_FLOOR = 1e-6  # of what is divided by: a channel that is always 0, an output without weights


@cache
def can_multiply_int8() -> bool:
    """Whether this processor has AVX-512-VNNI."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    from llvmlite.binding import get_host_cpu_features

    return bool(get_host_cpu_features().get("avx512vnni", False))


def fits_int8(config: Any) -> bool:
    """Whether blocks of BERT's build are as wide as whole tiles, and have the activation that is here."""
    from embedsearch.backbones.cpu.int8_tile import COLUMNS

    widths = (config.hidden_size, config.intermediate_size)
    return bool(config.hidden_act == "gelu" and not any(width % COLUMNS for width in widths))


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of bytes, and what they stand for. values: uint8 n x C. parts: float32 PARTS x n; see `to_bytes`."""

    values: NDArray[np.uint8]
    parts: NDArray[np.float32]


class Int8Linear:
    """A linear layer with weights of 8 bits, over rows of bytes."""

    def __init__(self, linear: nn.Linear, stretch: torch.Tensor, apart: torch.Tensor) -> None:
        """linear: in float32. stretch: of each channel, what it was shrunk by. apart: channels that stay float32."""
        from embedsearch.backbones.cpu.int8_rows import MIDDLE
        from embedsearch.backbones.cpu.int8_tile import pack

        weight = linear.weight.detach()
        stretched = (weight * stretch).index_fill(1, apart, 0.0)
        steps = (stretched.abs().amax(dim=1) / 127).clamp(min=_FLOOR)
        values = (stretched / steps[:, None]).round().to(torch.int8)
        sums = values.sum(dim=1, dtype=torch.int32)
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach()
        self._packed = pack(values.numpy())
        self._starts = (-MIDDLE * sums).numpy()
        self._lines = torch.cat([torch.stack([steps, bias, sums * steps]), weight[:, apart].T]).numpy()
        self._nothing = np.empty((0, len(weight)), np.uint16)

    def __call__(self, rows: Rows) -> torch.Tensor:
        """bfloat16 n x outputs."""
        return self._multiplied(rows, self._nothing, with_gelu=False)

    def plus(self, rows: Rows, other: torch.Tensor) -> torch.Tensor:
        """The same and `other`, of its shape, added."""
        return self._multiplied(rows, bits_of(other), with_gelu=False)

    def with_gelu(self, rows: Rows) -> torch.Tensor:
        """The same with GELU over it."""
        return self._multiplied(rows, self._nothing, with_gelu=True)

    def _multiplied(self, rows: Rows, others: NDArray[np.uint16], *, with_gelu: bool) -> torch.Tensor:
        from embedsearch.backbones.cpu.int8_rows import multiply

        out = torch.empty((len(rows.values), len(self._starts)), dtype=torch.bfloat16)
        multiply(rows.values, rows.parts, self._packed, self._starts, self._lines, others, with_gelu, bits_of(out))
        return out


class _Reading:
    """Linear layers that read the same."""

    def __init__(self, linears: Sequence[nn.Linear], reach: torch.Tensor) -> None:
        """reach: the largest absolute value of each channel that they read."""
        from embedsearch.backbones.cpu.int8_rows import APART

        weights = torch.cat([linear.weight.detach() for linear in linears]).square().mean(dim=0).sqrt()
        stretch = reach.clamp(min=_FLOOR) ** _EXPONENT / weights.clamp(min=_FLOOR) ** (1 - _EXPONENT)
        apart = reach.topk(APART).indices
        self._shrink, self._apart = (1 / stretch).numpy(), apart.numpy()
        self.linears = [Int8Linear(linear, stretch, apart) for linear in linears]

    def rows(self, x: torch.Tensor) -> Rows:
        """x: bfloat16 n x C."""
        from embedsearch.backbones.cpu.int8_rows import PARTS, to_bytes

        rows = Rows(np.empty(x.shape, np.uint8), np.empty((PARTS, len(x)), np.float32))
        to_bytes(bits_of(x), self._shrink, self._apart, rows.values, rows.parts)
        return rows


class Int8Products:
    """Those of a block in float32."""

    def __init__(self, block: Any, reaches: Sequence[torch.Tensor]) -> None:
        """reaches: of what is read by its attention, by what follows that, and by its wide product."""
        attention = block.attention.self
        self._looking = _Reading((attention.query, attention.key), reaches[0])
        self._seen = _Reading((attention.value,), reaches[0])  # shrunk for its own weights, it is off by less
        self._after = _Reading((block.attention.output.dense,), reaches[1])
        self._wide = _Reading((block.intermediate.dense,), reaches[2])
        self._output = block.output

    def query_key_value(self, x: torch.Tensor) -> Sequence[torch.Tensor]:
        looking = self._looking.rows(x)
        query, key = (linear(looking) for linear in self._looking.linears)
        return query, key, self._seen.linears[0](self._seen.rows(x))

    def after_attention(self, mixed: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self._after.linears[0].plus(self._after.rows(mixed), x)

    def widened(self, x: torch.Tensor) -> torch.Tensor:
        return self._wide.linears[0].with_gelu(self._wide.rows(x))

    def narrowed(self, wide: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = self._output.dense.plus(wide, x)  # packed after this was made
        return product


def int8_products(module: Any, examples: Iterable[Inputs]) -> list[Int8Products]:
    """Those of every block of a network of BERT's build, in float32, which `examples` are read through for the reach of
    its channels."""
    blocks = list(module.encoder.layer)
    reading = [(b.attention.self.query, b.attention.output.dense, b.intermediate.dense) for b in blocks]
    reaches = _reaches(module, blocks[-1], [linear for linears in reading for linear in linears], examples)
    return [Int8Products(block, reaches[3 * n : 3 * n + 3]) for n, block in enumerate(blocks)]


def _reaches(module: nn.Module, last: nn.Module, linears: Sequence[nn.Linear], examples: Any) -> list[torch.Tensor]:
    found = [torch.zeros(linear.in_features) for linear in linears]

    def noting(place: int) -> Any:
        def note(_module: nn.Module, args: Any) -> None:
            rows = args[0].flatten(0, -2).abs()
            rows = rows[rows.isfinite().all(dim=1)]  # a broken token says nothing of the others
            if len(rows):
                found[place] = torch.maximum(found[place], rows.amax(dim=0))

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
