"""What torch lets one call of oneDNN: weights that lie as it wants them, what it does to a result as it writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class PostOp:
    """An activation as torch hands it to oneDNN: its name there, numbers that belong to it, its variant."""

    name: str = "none"
    numbers: tuple[float, ...] = ()
    variant: str = ""

    @property
    def arguments(self) -> tuple[str, list[float], str]:
        """As the operators take them."""
        return self.name, list(self.numbers), self.variant


NONE = PostOp()
RELU = PostOp("relu")

# by transformers' names
BY_NAME = {"gelu": PostOp("gelu", variant="none"), "gelu_new": PostOp("gelu", variant="tanh"), "relu": RELU}

_BY_TYPE: dict[type[nn.Module], Callable[[Any], PostOp]] = {
    nn.ReLU: lambda _: RELU,
    nn.ReLU6: lambda _: PostOp("hardtanh", (0.0, 6.0)),
    nn.SiLU: lambda _: PostOp("swish"),
    nn.Hardswish: lambda _: PostOp("hardswish"),
    nn.GELU: lambda gelu: PostOp("gelu", variant=gelu.approximate),
}


def post_op_of(module: nn.Module) -> PostOp | None:
    """The activation that `module` is; None where it is something else, or one that oneDNN has not."""
    make = _BY_TYPE.get(type(module))
    return None if make is None else make(module)


@cache
def can_reorder() -> bool:
    """Whether this torch can bring weights into oneDNN's order."""
    try:
        torch.ops.mkldnn._reorder_linear_weight(torch.zeros(1, 1), None)
        torch.ops.mkldnn._reorder_convolution_weight(torch.zeros(1, 1, 1, 1), [0, 0], [1, 1], [1, 1], 1)
    except (RuntimeError, NotImplementedError, AttributeError):  # it was built without
        return False
    return True


def takes(layer: nn.Module) -> bool:
    """Whether oneDNN can compute with the weights and the bias of `layer`: float32 or bfloat16 on the CPU, none of them
    missing."""
    dtypes = (torch.float32, torch.bfloat16)
    return can_reorder() and all(w.device.type == "cpu" and w.dtype in dtypes for w in layer.parameters(recurse=False))
