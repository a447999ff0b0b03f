"""A network of any kind, cut at the layers that are asked for."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from embedsearch.backbones.tap import run_to
from embedsearch.errors import UsageError, WeightsError, unknown
from embedsearch.types import Features, LayerInfo, Modality


@dataclass(frozen=True, slots=True)
class BackboneOptions:
    """How a network is opened.

    weights: "auto", "packaged", a path, or what the family knows (a torchvision weights name, a hub name).
    size: pixels of the square input; max_tokens: longer texts are cut there; None takes the network's own.
    device: "auto", "cpu", "cuda", ... precision: "float32" or "bfloat16". expect_sha256: the hash that a
    manifest recorded; with weights="auto", every place that "auto" looks at is tried for it.
    """

    weights: str = "auto"
    size: int | None = None
    max_tokens: int | None = None
    device: str = "auto"
    precision: str = "float32"
    expect_sha256: str | None = None


class Backbone(ABC):
    """What the road knows of a network. A registered one is opened as Class(name, options).

    name: as registered. modality: what it reads. size: pixels of the square input, None for texts.
    max_tokens: longer texts are cut there, None for pictures. weights_sha256: of the file(s) the
    weights came from. weights_origin: where that was, for people. default_layer: taken when none is named.
    """

    name: str
    modality: Modality
    size: int | None = None
    max_tokens: int | None = None
    weights_sha256: str
    weights_origin: str
    default_layer: str

    def __init__(self, module: nn.Module, infos: list[LayerInfo], options: BackboneOptions) -> None:
        self._infos = {info.name: info for info in infos}
        self._device = _device(options.device)
        # what has no weights stays on meta, and is missed only if it is reached
        self._module = module.eval().requires_grad_(False)
        move: Any = self._module._apply
        move(lambda tensor: tensor if tensor.is_meta else tensor.to(self._device))
        self._precision = options.precision
        self._lock = threading.Lock()  # hooks are per module, so one pass at a time

    def layers(self) -> list[LayerInfo]:
        """Every layer that can be named, in the order in which they answer."""
        return list(self._infos.values())

    @classmethod
    @abstractmethod
    def describe(cls, name: str, *, weights: str, size: int | None) -> tuple[list[LayerInfo], str]:
        """The layers of the network `name` in the order in which they answer, and its default layer."""

    @abstractmethod
    def prepare(self, values: Sequence[Any]) -> list[Any]:
        """Decoded items in the form `extract` takes, work that needs no network (tokenising)."""

    def length(self, prepared: Any) -> int:
        """How much work an item is, relative to others; items of a length are batched together."""
        return 1

    def is_cut(self, prepared: Any) -> bool:
        """True when the item was longer than the network reads."""
        return False

    @abstractmethod
    def collate(self, batch: Sequence[Any]) -> dict[str, Any]:
        """Prepared items as the keyword arguments of the module."""

    @abstractmethod
    def to_features(self, layer: str, output: torch.Tensor, inputs: Mapping[str, Any]) -> Features:
        """The output of one layer as B x T x C with its mask and grid."""

    @abstractmethod
    def n_channels(self, layer: str) -> int:
        """The C of the layer's features."""

    def check_layer(self, layer: str) -> None:
        """Raises UnknownNameError with the nearest names when the network has no such layer."""
        if layer not in self._infos:
            raise unknown("layer", layer, self._infos, f"(`embedsearch layers {self.name}` lists them)")

    def extract(self, batch: Sequence[Any], layers: Sequence[str]) -> dict[str, Features]:
        """Features of `layers` for prepared items, from one pass that goes no further than needed.

        No gradients, evaluation mode, deterministic. Raises WeightsError when the weights do not reach
        up to a layer.
        """
        for layer in layers:
            self.check_layer(layer)
        wanted = {layer: self._infos[layer].n_calls for layer in layers}
        inputs = {name: value.to(self._device) for name, value in self.collate(batch).items()}
        bf16 = self._precision == "bfloat16"
        with (
            self._lock,
            torch.inference_mode(),
            torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=bf16),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            outputs = self._run(inputs, wanted)
            return {layer: self.to_features(layer, outputs[layer], inputs) for layer in layers}

    def _run(self, inputs: Mapping[str, Any], wanted: Mapping[str, int]) -> dict[str, torch.Tensor]:
        try:
            outputs = run_to(self._module, inputs, wanted)
        except (RuntimeError, NotImplementedError) as error:
            if "meta" in str(error) and self.absent_weights():
                raise self._out_of_reach(wanted) from error
            raise
        if any(output.is_meta for output in outputs.values()):
            raise self._out_of_reach(wanted)
        return outputs

    def _out_of_reach(self, wanted: Mapping[str, int]) -> WeightsError:
        absent = self.absent_weights()
        return WeightsError(
            f"the weights ({self.weights_origin}) do not reach layer {list(wanted)[-1]!r}: "
            f"they lack {absent[0]!r} and {len(absent) - 1} more; choose a layer below it, "
            "or give complete weights with --weights PATH"
        )

    def absent_weights(self) -> list[str]:
        """Names of the parameters and buffers for which no weights were loaded."""
        tensors = [*self._module.named_parameters(), *self._module.named_buffers()]
        return [name for name, tensor in tensors if tensor.is_meta]


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device
