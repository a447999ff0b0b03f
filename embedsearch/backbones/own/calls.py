"""How a network calls each of its layers, found without running it where that can be."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn

from embedsearch.backbones.module_state import meta_copy
from embedsearch.backbones.outputs import batch_axis_first, first_tensor
from embedsearch.backbones.own.items import combine, signature, stack
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
            mixing = _mixing(clone, parts, lambda n: self._blank(item, n))
            for name, part in parts.items():
                calls[name] = []
                part.register_forward_hook(_noting(calls[name], part))
            infos = probe(clone, self._blank(item, PROBE_BATCH), parts)
        except Exception:  # whatever it is, the real pass will tell it better
            _refuse(_mixing(self._module, self._named, lambda n: stack([item] * n, self._batch_axis)))
            return None
        self.infos = {info.name: info for info in infos}
        _refuse(mixing)
        return calls

    def _blank(self, item: Inputs, n: int) -> Inputs:
        def blank(parts: Sequence[torch.Tensor]) -> torch.Tensor:
            shape = list(parts[0].shape)
            shape.insert(self._batch_axis, n)
            return torch.empty(shape, dtype=parts[0].dtype, device="meta")

        return combine([item], blank)


def _noting_input(read: list[tuple[str, torch.Size]], name: str) -> Any:
    def hook(_module: nn.Module, args: Any) -> None:
        if args and isinstance(args[0], torch.Tensor) and args[0].ndim == 3:
            read.append((name, args[0].shape))

    return hook


def _noting(calls: list[bool], part: nn.Module) -> Any:
    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        try:
            calls.append(batch_axis_first(first_tensor(output), part).shape[:1] == (PROBE_BATCH,))
        except UsageError:  # nothing to read in it, which the real pass will tell
            calls.append(True)

    return hook


def _mixing(module: nn.Module, parts: Mapping[str, nn.Module], batch_of: Callable[[int], Inputs]) -> str | None:
    """The layer that takes the batch for a sequence: its first axis grows with the batch."""
    read: list[tuple[str, torch.Size]] = []
    handles = [
        part.register_forward_pre_hook(_noting_input(read, name))
        for name, part in parts.items()
        if getattr(part, "batch_first", True) is False
    ]
    lengths = []
    try:
        for n in (PROBE_BATCH, PROBE_BATCH + 1) if handles else ():
            read.clear()
            inputs = batch_of(n)
            with torch.no_grad():
                module(*inputs.args, **inputs.kwargs)
            lengths.append([(name, shape[0] - n, shape[1]) for name, shape in read])
    finally:
        for handle in handles:
            handle.remove()
    same = [a for a, b in zip(*lengths, strict=False) if a == b and a[1] == 0] if lengths else []
    return same[0][0] if same else None


def _refuse(mixing: str | None) -> None:
    if mixing is not None:
        raise UsageError(
            f"layer {mixing!r} takes its batch second (batch_first=False) and is given the items first, so it "
            "would mix them; build it with batch_first=True, or turn the axes around in a module around it"
        )
