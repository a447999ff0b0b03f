"""Blocks of torchvision's networks whose forward pass is code of their own, each in as few calls as it takes: a
residual block adds what goes around it within its last convolution.

A block inside of which somebody looks runs as torchvision wrote it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torchvision.models.densenet import _DenseLayer
from torchvision.models.googlenet import BasicConv2d as GoogLeNetConv
from torchvision.models.inception import BasicConv2d as InceptionConv
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from embedsearch.backbones.cpu.joined_steps import JoinedConv, can_be_joined

Forward = Callable[..., Any]
Way = tuple[Forward, list[nn.Module]]  # the faster one, and the modules that it passes over


def join_blocks(module: nn.Module) -> int:
    """Gives every known block of a network in evaluation mode on a CPU its faster way; how many those were."""
    n_joined = 0
    for block in list(module.modules()):
        join = _WAYS.get(type(block))
        convs = [part for part in block.children() if isinstance(part, nn.Conv2d)]
        if join is not None and all(map(can_be_joined, convs)):
            block.forward = _UnlessWatched(block.forward, *join(block))
            n_joined += 1
    return n_joined


class _UnlessWatched:
    """The joined way through a block, or the plain one while a module that the joined one passes over has a hook."""

    def __init__(self, plain: Forward, joined: Forward, passed_over: list[nn.Module]) -> None:
        self._plain, self._joined, self._passed_over = plain, joined, passed_over

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        watched = any(part._forward_hooks for part in self._passed_over)
        return (self._plain if watched else self._joined)(*args, **kwargs)


def _residual(block: Any) -> Way:
    numbers = (1, 2, 3) if isinstance(block, Bottleneck) else (1, 2)
    runs = [[getattr(block, f"conv{n}"), getattr(block, f"bn{n}"), block.relu] for n in numbers]
    *before, last = map(JoinedConv, runs)

    def forward(x: torch.Tensor) -> torch.Tensor:
        around = x if block.downsample is None else block.downsample(x)
        for conv in before:
            x = conv(x)
        return last.plus(x, around)

    return forward, [part for run in runs for part in run]


def _stem(network: Any) -> Way:
    parts = [network.conv1, network.bn1, network.relu]
    stem = JoinedConv(parts)

    def forward(x: torch.Tensor) -> torch.Tensor:
        x = network.maxpool(stem(x))
        for part in (network.layer1, network.layer2, network.layer3, network.layer4, network.avgpool):
            x = part(x)
        y: torch.Tensor = network.fc(torch.flatten(x, 1))
        return y

    return forward, parts


def _inception(block: Any) -> Way:
    return JoinedConv([block.conv, block.bn, nn.ReLU()]), [block.conv, block.bn]


def _dense(layer: Any) -> Way:
    parts = [layer.conv1, layer.norm2, layer.relu2]
    first = JoinedConv(parts)

    def forward(x: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
        x = x if isinstance(x, torch.Tensor) else torch.cat(x, 1)
        y: torch.Tensor = layer.conv2(first(layer.relu1(layer.norm1(x))))
        return y

    return forward, parts


_WAYS: dict[type[nn.Module], Callable[[Any], Way]] = {
    BasicBlock: _residual,
    Bottleneck: _residual,
    ResNet: _stem,
    GoogLeNetConv: _inception,
    InceptionConv: _inception,
    _DenseLayer: _dense,
}
