"""How a network calls each of its layers, found without running it where that can be."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn

from embedsearch.backbones.items import combine, signature
from embedsearch.backbones.module_state import meta_copy
from embedsearch.backbones.outputs import batch_axis_first, first_tensor
from embedsearch.backbones.probe import PROBE_BATCH, probe
from embedsearch.backbones.tap import Inputs
from embedsearch.errors import UsageError
from embedsearch.types import LayerInfo

# of each layer, for each of its calls: whether a row of the answer belongs to an item
Calls: TypeAlias = Mapping[str, Sequence[bool]]


class CallCounts:
    """Calls of every layer in one forward pass, for each shape of input that was met.

    A copy without numbers runs on the meta device, so that the network itself is run only as far as a
    vector needs. A network that cannot be copied, or whose forward pass looks at numbers, has to be
    run whole. infos: what the last such pass found of each layer.
    """

    def __init__(self, module: nn.Module, named: Mapping[str, nn.Module], batch_axis: int) -> None:
        self._module = module
        self._named = named
        self._batch_axis = batch_axis
        self._known: dict[Hashable, Calls | None] = {}
        self.infos: dict[str, LayerInfo] = {}

    def of(self, item: Inputs) -> Calls | None:
        """The calls for items shaped as this one; None where only a whole pass can tell."""
        key = signature(item)
        if key not in self._known:
            self._known[key] = self._count(item)
        return self._known[key]

    def _count(self, item: Inputs) -> Calls | None:
        calls: dict[str, list[bool]] = {}
        try:
            clone = meta_copy(self._module)
            parts = {
                name: clone if part is self._module else clone.get_submodule(name) for name, part in self._named.items()
            }
            for name, part in parts.items():
                calls[name] = []
                part.register_forward_hook(_noting(calls[name], part))
            infos = probe(clone, combine([item], self._blank_batch), parts)
        except Exception:  # whatever it is, the real pass will tell it better
            return None
        self.infos = {info.name: info for info in infos}
        return calls

    def _blank_batch(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        shape = list(parts[0].shape)
        shape.insert(self._batch_axis, PROBE_BATCH)
        return torch.empty(shape, dtype=parts[0].dtype, device="meta")


def _noting(calls: list[bool], part: nn.Module) -> Any:
    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        try:
            calls.append(batch_axis_first(first_tensor(output), part).shape[:1] == (PROBE_BATCH,))
        except UsageError:  # nothing to read in it, which the real pass will tell
            calls.append(True)

    return hook
