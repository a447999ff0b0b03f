"""Steps of a convolutional network that one call takes: a convolution, its batch norm, its ReLU.

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

Step = Callable[[torch.Tensor], torch.Tensor]


class FusedConv:
    """A convolution on a CPU with what follows it, over weights that lie as oneDNN wants them."""

    def __init__(self, parts: list[nn.Module]) -> None:
        """parts: an nn.Conv2d, and behind it an nn.BatchNorm2d, an nn.ReLU, or both."""
        self.parts = parts
        conv: Any = parts[0]
        dtype = conv.weight.dtype
        norm: Any = next((part for part in parts if type(part) is nn.BatchNorm2d), None)
        if norm is not None:
            conv = fuse_conv_bn_eval(deepcopy(conv).float(), norm)
        self._bias = None if conv.bias is None else conv.bias.detach().to(dtype)
        self._where = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self._activation = "relu" if type(parts[-1]) is nn.ReLU else "none"
        weight = conv.weight.detach().to(dtype)
        self._weight: torch.Tensor = torch.ops.mkldnn._reorder_convolution_weight(weight, *self._where)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if any(part._forward_hooks for part in self.parts[:-1]):  # somebody looks at what lies between
            for part in self.parts:
                x = part(x)
            return x
        y: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            x.to(self._weight.dtype), self._weight, self._bias, *self._where, self._activation, [], ""
        )
        last = self.parts[-1]
        for hook in list(last._forward_hooks.values()):
            hook(last, (x,), y)
        return y


def join_steps(module: nn.Module) -> int:
    """Joins, in every nn.Sequential of a network in evaluation mode on a CPU, each convolution with what follows it,
    and gives max pooling of 2 x 2 a faster way; how many convolutions those were.

    Names and hooks stay as they were: what a hooked layer answers is computed as if nothing had been joined.
    """
    n_joined = 0
    with torch.no_grad():
        for part in list(module.modules()):
            if type(part) is nn.MaxPool2d and _halves(part):
                part.forward = halved_by_max  # type: ignore[assignment, method-assign]
            elif isinstance(part, nn.Sequential) and type(part).forward is nn.Sequential.forward:
                steps = _steps(list(part))
                if len(steps) < len(part):
                    part.forward = _InTurn(steps)  # type: ignore[method-assign]
                    n_joined += sum(isinstance(step, FusedConv) for step in steps)
    return n_joined


class _InTurn:
    def __init__(self, steps: list[Step]) -> None:
        self._steps = steps

    def __call__(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # as nn.Sequential names it
        for step in self._steps:
            input = step(input)  # noqa: A001
        return input


def _steps(parts: list[nn.Module]) -> list[Step]:
    steps: list[Step] = []
    place = 0
    while place < len(parts):
        run = parts[place : place + 1]
        if _can_be_fused(run[0]):
            for kind in (nn.BatchNorm2d, nn.ReLU):
                following = parts[place + len(run) : place + len(run) + 1]
                if following and type(following[0]) is kind:
                    run += following
        place += len(run)
        try:
            steps.append(FusedConv(run) if len(run) > 1 else run[0])
        except (RuntimeError, NotImplementedError, AttributeError):  # a torch that was built without it
            steps += run
    return steps


def _can_be_fused(part: nn.Module) -> bool:
    return (
        type(part) is nn.Conv2d
        and part.padding_mode == "zeros"
        and not isinstance(part.padding, str)
        and not part.weight.is_meta
        and part.weight.device.type == "cpu"
        and part.weight.dtype in (torch.float32, torch.bfloat16)
    )


def _halves(pool: nn.MaxPool2d) -> bool:
    settings = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    return settings == (2, 2, 0, 1) and not pool.return_indices and not pool.ceil_mode


def halved_by_max(x: torch.Tensor) -> torch.Tensor:
    """Max pooling of 2 x 2, B x C x H x W: the same numbers, in two thirds of torch's time where channels lie last."""
    x = x[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]
    rows = torch.maximum(x[:, :, 0::2], x[:, :, 1::2])
    return torch.maximum(rows[..., 0::2], rows[..., 1::2])
