"""A convolutional network cut at the layers that are asked for, its steps joined where one can take several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.nn.utils import fuse_conv_bn_eval
from torchvision.models.feature_extraction import create_feature_extractor


class FusedConv(nn.Module):
    """A convolution on a CPU with what follows it, a batch norm and a ReLU, in one step over weights that lie as oneDNN
    wants them."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, *, relu: bool) -> None:
        super().__init__()
        dtype = conv.weight.dtype
        folded = conv if norm is None else fuse_conv_bn_eval(conv.float(), norm)
        weight = folded.weight.detach().to(dtype)
        self._bias = None if folded.bias is None else folded.bias.detach().to(dtype)
        self._where = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self._activation = "relu" if relu else "none"
        self._weight: torch.Tensor = torch.ops.mkldnn._reorder_convolution_weight(weight, *self._where)
        self._dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            x.to(self._dtype), self._weight, self._bias, *self._where, self._activation, [], ""
        )
        return y


class HalvedByMax(nn.Module):
    """Max pooling of 2 x 2 on a CPU: the same numbers, in two thirds of torch's time where channels lie last."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[2] % 2 or x.shape[3] % 2:
            return nn.functional.max_pool2d(x, 2, 2)
        rows = torch.maximum(x[:, :, 0::2], x[:, :, 1::2])
        return torch.maximum(rows[..., 0::2], rows[..., 1::2])


def cut_graph(module: nn.Module, layers: Sequence[str]) -> GraphModule | None:
    """`module` as a function from pictures to a dict of what `layers` answer, each called once in a pass.

    Shares the module's other layers, which are not changed. None where nothing can be joined. Raises whatever tracing
    raises for a network whose steps depend on numbers. Blocks of torchvision.ops (MobileNet, RegNet) count as one step,
    which is left as it is.
    """
    graph: GraphModule = create_feature_extractor(
        module,
        {layer: layer for layer in layers},
        suppress_diff_warning=True,
    ).eval()
    parts = dict(graph.named_modules())
    joined = 0
    for name, part in parts.items():
        if type(part) is nn.MaxPool2d and (part.kernel_size, part.stride, part.padding, part.dilation) == (2, 2, 0, 1):
            graph.set_submodule(name, HalvedByMax())
    for node in list(graph.graph.nodes):
        conv = _part(node, parts, nn.Conv2d)
        if conv is None or conv.padding_mode != "zeros" or isinstance(conv.padding, str) or conv.weight.is_meta:
            continue
        last, norm = node, None
        following = _only_user(last)
        if (norm := _part(following, parts, nn.BatchNorm2d)) is not None:
            assert following is not None
            last, following = following, _only_user(following)
        relu = following is not None and _is_relu(following, parts)
        if relu:
            assert following is not None
            last = following
        if last is node:
            continue
        graph.add_submodule(f"joined_{joined}", FusedConv(conv, norm, relu=relu))
        with graph.graph.inserting_after(last):
            step = graph.graph.call_module(f"joined_{joined}", (node.args[0],))
        last.replace_all_uses_with(step)
        joined += 1
        while last is not node:
            before = last.args[0]
            graph.graph.erase_node(last)
            last = before
        graph.graph.erase_node(node)
    if not joined:
        return None
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def _part(node: Node | None, parts: dict[str, nn.Module], kind: type[Any]) -> Any:
    """The layer of exactly that kind that a step calls, if it does."""
    if node is None or node.op != "call_module":
        return None
    part = parts[str(node.target)]
    return part if type(part) is kind else None


def _only_user(node: Node) -> Node | None:
    """The one step that reads what `node` gives; None where it is read by several, or asked for."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].op != "output" else None


def _is_relu(node: Node, parts: dict[str, nn.Module]) -> bool:
    if node.op == "call_function":
        return node.target in (torch.relu, nn.functional.relu)
    return _part(node, parts, nn.ReLU) is not None
