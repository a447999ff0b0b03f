"""The masks that Keras passes from layer to layer, of padding mostly."""

from __future__ import annotations

from typing import Any

import torch

from embedsearch.backbones.outputs import tensors_in


class MaskWatch:
    """Notes the mask of every answer of a Keras layer until it is stopped.

    masks: one for each call, bool B x T, or None. Keras marks a layer's answer only after the hooks have
    run, so the layer is asked what Keras will ask it.
    """

    def __init__(self, layer: Any) -> None:
        self.masks: list[torch.Tensor | None] = []
        self._layer = layer
        self._read: tuple[Any, Any] = (None, None)
        self._handles = [
            layer.register_forward_pre_hook(self._before, with_kwargs=True),
            layer.register_forward_hook(self._after, with_kwargs=True),
        ]

    def stop(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _before(self, _layer: Any, args: Any, kwargs: Any) -> None:
        # noted now, for attention takes the masks off what it reads
        first = args[0] if args else next((v for name, v in kwargs.items() if name not in ("training", "mask")), None)
        given = kwargs.get("mask")
        self._read = first, _masks_of(first) if given is None else given

    def _after(self, _layer: Any, _args: Any, _kwargs: Any, output: Any) -> None:
        answer = next(iter(tensors_in(output)), None)
        mask = getattr(answer, "_keras_mask", None)
        if mask is None and self._layer.supports_masking:
            try:
                mask = self._layer.compute_mask(*self._read)
            except Exception:  # Keras would fail here as well, or the layer has none
                mask = None
        mask = next(iter(tensors_in(mask)), None)
        self.masks.append(mask)


def _masks_of(read: Any) -> Any:
    if isinstance(read, list | tuple):
        return [_masks_of(part) for part in read]
    if isinstance(read, dict):
        return {name: _masks_of(part) for name, part in read.items()}
    return getattr(read, "_keras_mask", None)
