"""Linear layers whose weights lie as oneDNN wants them."""

from __future__ import annotations

import torch
from torch import nn

from embedsearch.backbones.cpu.onednn import NONE, PostOp, takes

# for how many rows weights are ordered: any number suits all, and none given suits thousands a twentieth worse
_ROWS = 512


class PackedLinear(nn.Module):
    """What an nn.Linear computes, on a CPU, and faster.

    torch gives the weights of a linear layer to its BLAS as they are; oneDNN takes them reordered, once: before the
    first pass, for of a layer that no pass reaches nothing should be kept twice. Inputs are brought to the type of the
    weights. weight, bias: as they were, for code that looks at them, unless the weight was dropped.
    """

    _packed: torch.Tensor | None = None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activated(x, NONE)

    def activated(self, x: torch.Tensor, activation: PostOp) -> torch.Tensor:
        """The same with an activation over it."""
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x.to(self.weight.dtype), self._reordered(), self.bias, *activation.arguments
        )
        return product

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The same and `other`, of its shape, added."""
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, self._reordered(), self.bias, "add")
        return product

    def drop_weight(self) -> None:
        """Keeps of the plain weight its shape and type only, where it is known that nobody looks at it."""
        self._reordered()
        self.weight = nn.Parameter(torch.empty_like(self.weight, device="meta"), requires_grad=False)

    def _reordered(self) -> torch.Tensor:
        if self._packed is None:  # two threads may both do it, and come to the same
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach(), _ROWS)
        return self._packed


def pack_linears(module: nn.Module) -> int:
    """Puts a PackedLinear in the place of every nn.Linear in `module` that oneDNN can compute; how many those were."""
    places = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear and _can_be_packed(child)
    ]
    for parent, name, linear in places:
        setattr(parent, name, PackedLinear(linear))
    return len(places)


def _can_be_packed(linear: nn.Linear) -> bool:
    return takes(linear) and not linear._forward_hooks and not linear._forward_pre_hooks
