"""Steps of a network that one call takes: a convolution, its batch norm, its activation; a linear layer and its own.

Not by tracing the network: torch.fx changes what every module of the process does while it traces, those that other
threads run among them.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from embedsearch.backbones.cpu.onednn import NONE, RELU, post_op_of, takes
from embedsearch.backbones.cpu.packed_linear import PackedLinear

Step = Callable[[torch.Tensor], torch.Tensor]


class Joined:
    """Modules that are computed in one call; one by one while somebody looks at what lies between them."""

    def __init__(self, parts: list[nn.Module]) -> None:
        self.parts = parts
        self._post_op = post_op_of(parts[-1]) or NONE

    def at_once(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if any(part._forward_hooks for part in self.parts[:-1]):
            for part in self.parts:
                x = part(x)
            return x
        y = self.at_once(x)
        last = self.parts[-1]
        for hook in list(last._forward_hooks.values()):
            hook(last, (x,), y)
        return y


class JoinedConv(Joined):
    """A convolution on a CPU with what follows it, over weights that lie as oneDNN wants them."""

    _packed: tuple[torch.Tensor, torch.Tensor | None] | None = None

    def __init__(self, parts: list[nn.Module]) -> None:
        """parts: a convolution that `can_be_joined`, and behind it an nn.BatchNorm2d, an activation, or both."""
        super().__init__(parts)
        conv: Any = parts[0]
        self._dtype = conv.weight.dtype
        self._where = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)

    def at_once(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            x.to(self._dtype), *self._weights(x), *self._where, *self._post_op.arguments
        )
        return y

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """ReLU of the convolution of x and `other`, of its shape, added."""
        y: torch.Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
            x.to(self._dtype), other.to(self._dtype), *self._weights(x), *self._where, "add", None, *RELU.arguments
        )
        return y

    def _weights(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self._packed is None:  # two threads may both do it, and come to the same
            conv: Any = self.parts[0]
            norm: Any = next((part for part in self.parts if type(part) is nn.BatchNorm2d), None)
            if norm is not None:
                conv = fuse_conv_bn_eval(deepcopy(conv).float(), norm)
            bias = None if conv.bias is None else conv.bias.detach().to(self._dtype)
            weight = conv.weight.detach().to(self._dtype)
            # for maps of another size oneDNN may want another order: a tenth of the speed in bfloat16 without it. What
            # suits one size and batch suits those around it.
            ordered = torch.ops.mkldnn._reorder_convolution_weight(weight, *self._where, list(x.shape))
            self._packed = ordered, bias
        return self._packed


class JoinedLinear(Joined):
    """A packed linear layer with the activation that follows it."""

    def at_once(self, x: torch.Tensor) -> torch.Tensor:
        linear: Any = self.parts[0]
        y: torch.Tensor = linear.activated(x, self._post_op)
        return y


def join_steps(module: nn.Module) -> int:
    """Joins, in every nn.Sequential of a network in evaluation mode on a CPU, each convolution and each packed linear
    layer with what follows it, and gives max pooling of 2 x 2 a faster way; how many of both were joined.

    Names and hooks stay as they were: what a hooked layer answers is computed as if nothing had been joined.
    """
    n_joined = 0
    for part in list(module.modules()):
        if type(part) is nn.MaxPool2d and _halves(part):
            part.forward = halved_by_max  # type: ignore[assignment, method-assign]
        elif isinstance(part, nn.Sequential) and type(part).forward is nn.Sequential.forward:
            steps = _steps(list(part))
            if n_here := sum(isinstance(step, Joined) for step in steps):
                part.forward = _InTurn(steps)  # type: ignore[method-assign]
                n_joined += n_here
    return n_joined


def can_be_joined(conv: Any) -> bool:
    """Whether `conv` is a plain convolution that oneDNN can compute."""
    plain = type(conv) is nn.Conv2d and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return plain and takes(conv)


class _InTurn:
    def __init__(self, steps: list[Step]) -> None:
        self._steps = steps

    def __call__(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # as nn.Sequential names it
        for step in self._steps:
            input = step(input)  # noqa: A001
        return input


def _steps(parts: list[nn.Module]) -> list[Step]:
    steps: list[Step] = []
    while parts:
        n = _n_joined(parts)
        kind = JoinedConv if isinstance(parts[0], nn.Conv2d) else JoinedLinear
        steps.append(kind(parts[:n]) if n > 1 else parts[0])
        parts = parts[n:]
    return steps


def _n_joined(parts: list[nn.Module]) -> int:
    """How many of `parts`, from the first one on, can be computed in one call."""
    n = 1
    if can_be_joined(parts[0]):
        n += len(parts) > 1 and type(parts[1]) is nn.BatchNorm2d
    elif type(parts[0]) is not PackedLinear:
        return 1
    return n + (n < len(parts) and post_op_of(parts[n]) is not None)


def _halves(pool: nn.MaxPool2d) -> bool:
    settings = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    return settings == (2, 2, 0, 1) and not pool.return_indices and not pool.ceil_mode


def halved_by_max(x: torch.Tensor) -> torch.Tensor:
    """Max pooling of 2 x 2, B x C x H x W: the same numbers, in two thirds of torch's time where channels lie last."""
    x = x[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]
    rows = torch.maximum(x[:, :, 0::2], x[:, :, 1::2])
    return torch.maximum(rows[..., 0::2], rows[..., 1::2])
