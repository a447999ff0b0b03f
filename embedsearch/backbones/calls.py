"""How often a network calls each of its layers, found without running it where that can be."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import nn

from embedsearch.backbones.items import combine, signature
from embedsearch.backbones.module_state import meta_copy
from embedsearch.backbones.probe import PROBE_BATCH, probe
from embedsearch.backbones.tap import Inputs
from embedsearch.types import LayerInfo


class CallCounts:
    """Calls of every layer in one forward pass, for each shape of input that was met.

    A copy without numbers runs on the meta device, so that the network itself is run only as far as a
    vector needs. A network that cannot be copied, or whose forward pass looks at numbers, has to be
    run whole. infos: what the last such pass found of each layer.
    """

    def __init__(self, module: nn.Module, named: Mapping[str, nn.Module]) -> None:
        self._module = module
        self._named = named
        self._known: dict[Hashable, dict[str, int] | None] = {}
        self.infos: dict[str, LayerInfo] = {}

    def of(self, item: Inputs) -> dict[str, int] | None:
        """Layer name -> number of calls for items shaped as this one; None where only a whole pass can tell."""
        key = signature(item)
        if key not in self._known:
            self._known[key] = self._count(item)
        return self._known[key]

    def _count(self, item: Inputs) -> dict[str, int] | None:
        try:
            clone = meta_copy(self._module)
            parts = {
                name: clone if part is self._module else clone.get_submodule(name) for name, part in self._named.items()
            }
            infos = probe(clone, combine([item], _blank_batch), parts)
        except Exception:  # whatever it is, the real pass will tell it better
            return None
        self.infos = {info.name: info for info in infos}
        return {info.name: info.n_calls for info in infos}


def _blank_batch(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.empty((PROBE_BATCH, *parts[0].shape), dtype=parts[0].dtype, device="meta")
