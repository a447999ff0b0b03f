"""Linear layers whose weights lie as oneDNN wants them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

# activations that oneDNN applies while it writes a product, by transformers' names for them: its own, and a variant
ACTIVATIONS = {"gelu": ("gelu", "none"), "gelu_new": ("gelu", "tanh"), "relu": ("relu", "")}


class PackedLinear(nn.Module):
    """What an nn.Linear computes, on a CPU, and faster.

    torch gives the weights of a linear layer to its BLAS as they are; oneDNN takes them reordered, once.
    weight, bias: as they were, for code that looks at them, unless the weight was dropped.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self._packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(linear.weight, None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return product

    def activated(self, x: torch.Tensor, activation: str) -> torch.Tensor:
        """The same with one of ACTIVATIONS over it."""
        name, variant = ACTIVATIONS[activation]
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, name, [], variant)
        return product

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The same and `other`, of its shape, added."""
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, self._packed, self.bias, "add")
        return product

    def drop_weight(self) -> None:
        """Keeps of the plain weight its shape and type only, where it is known that nobody looks at it."""
        self.weight = nn.Parameter(torch.empty_like(self.weight, device="meta"), requires_grad=False)


def pack_linears(module: nn.Module) -> int:
    """Puts a PackedLinear in the place of every nn.Linear inside `module`; how many those were.

    Layers without weights, of other types than float32 and bfloat16, or not on a CPU stay, and all do where this torch
    cannot reorder weights.
    """
    places = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear and _can_be_packed(child)
    ]
    n_packed = 0
    with torch.no_grad():
        for parent, name, linear in places:
            try:
                packed = PackedLinear(linear)
            except (RuntimeError, NotImplementedError, AttributeError):  # a torch that was built without it
                return n_packed
            setattr(parent, name, packed)
            n_packed += 1
    return n_packed


def _can_be_packed(linear: nn.Linear) -> bool:
    weight: Any = linear.weight
    hooked = linear._forward_hooks or linear._forward_pre_hooks
    return bool(weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.bfloat16) and not hooked)
