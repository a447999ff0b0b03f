"""What every layer of a network gives and costs, found by one pass (over meta tensors: no arithmetic)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from embedsearch.backbones.outputs import batch_axis_first, first_tensor
from embedsearch.backbones.tap import Inputs
from embedsearch.errors import UsageError
from embedsearch.types import LayerInfo

# a batch of two tells outputs that belong to items from those that belong to the network (position biases)
PROBE_BATCH = 2


def probe(module: nn.Module, inputs: Inputs, layers: Mapping[str, nn.Module] | None = None) -> list[LayerInfo]:
    """Every named layer that answers with a tensor a row of which belongs to an item, in the order in
    which they answer last.

    inputs: a batch of PROBE_BATCH, on the device of the module. layers: name -> module; None takes all
    by their dotted names. A multiply-add counts as two operations. The module is left as it was, but has
    to be in evaluation mode already.
    """
    infos: dict[str, LayerInfo] = {}
    handles = []
    counter = FlopCounterMode(display=False)
    worked: set[nn.Parameter] = set()

    def watch(name: str, layer: nn.Module) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            worked.update(layer.parameters())
            try:
                tensor = batch_axis_first(first_tensor(output), layer)
            except UsageError:
                return
            if tensor.shape[:1] != (PROBE_BATCH,):
                return
            before = infos.pop(name, None)
            infos[name] = LayerInfo(
                name=name,
                type=type(layer).__name__,
                shape=tuple(tensor.shape[1:]),
                gflop=counter.get_total_flops() / PROBE_BATCH / 1e9,
                n_params=sum(parameter.numel() for parameter in worked),
                n_calls=1 if before is None else before.n_calls + 1,
            )

        return hook

    try:
        for name, layer in (dict(module.named_modules()) if layers is None else layers).items():
            if name:
                handles.append(layer.register_forward_hook(watch(name, layer)))
        with torch.no_grad(), counter:
            module(*inputs.args, **inputs.kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return list(infos.values())
