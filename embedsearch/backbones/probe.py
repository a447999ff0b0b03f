"""What every layer of a network gives and costs, found by one pass over meta tensors (no arithmetic)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from embedsearch.backbones.tap import first_tensor
from embedsearch.errors import UsageError
from embedsearch.types import LayerInfo

# a batch of two tells outputs that belong to items from those that belong to the network (position biases)
PROBE_BATCH = 2


def probe(module: nn.Module, kwargs: Mapping[str, Any]) -> list[LayerInfo]:
    """Every named layer that answers with a tensor a row of which belongs to an item, in the order in
    which they answer last.

    module and kwargs: on the meta device, a batch of PROBE_BATCH. A multiply-add counts as two operations.
    """
    module.eval()
    infos: dict[str, LayerInfo] = {}
    handles = []
    counter = FlopCounterMode(display=False)

    def watch(name: str, layer: nn.Module) -> Any:
        n_params = sum(parameter.numel() for parameter in layer.parameters())

        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            try:
                shape = tuple(first_tensor(output).shape)
            except UsageError:
                return
            if shape[:1] != (PROBE_BATCH,):
                return
            before = infos.pop(name, None)
            infos[name] = LayerInfo(
                name=name,
                type=type(layer).__name__,
                shape=shape[1:],
                gflop=counter.get_total_flops() / PROBE_BATCH / 1e9,
                n_params=n_params,
                n_calls=1 if before is None else before.n_calls + 1,
            )

        return hook

    try:
        for name, layer in module.named_modules():
            if name:
                handles.append(layer.register_forward_hook(watch(name, layer)))
        with torch.no_grad(), counter:
            module(**kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return list(infos.values())
