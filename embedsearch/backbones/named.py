"""Networks opened by their registered name: nobody else holds them, so they are frozen, moved, and cut."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy, deepcopy
from typing import Any, Self

import torch
from torch import nn

from embedsearch.backbones.base import Backbone, BackboneOptions, open_device
from embedsearch.backbones.layer_table import LayerTable
from embedsearch.backbones.module_state import absent_tensors, out_of_reach, reach_told
from embedsearch.backbones.precision import has_bfloat16, lower
from embedsearch.backbones.tap import Inputs, run_to
from embedsearch.errors import UsageError
from embedsearch.types import Features, LayerInfo


class NamedBackbone(Backbone):
    """A network whose layers were all found by one pass over meta tensors before its weights were read."""

    _autocast = False
    thread_safe = True

    def __init__(self, module: nn.Module, table: LayerTable, options: BackboneOptions) -> None:
        if options.preprocess is not None or options.channels != "auto":
            field = "channels" if options.preprocess is None else "preprocess"
            raise UsageError(f"{field} is for networks of your own; {self.name} knows its own")
        self._table = table
        self._device = open_device(options.device)
        # what has no weights stays on meta, and is missed only if it is reached
        self._module = module.eval().requires_grad_(False)
        move: Any = self._module._apply
        move(lambda tensor: tensor if tensor.is_meta else tensor.to(self._device))
        self._absent = absent_tensors(self._module)  # once: nobody else holds the module, so it stays as it is
        # hooks know their own thread; of a device there is one, and its flags are everybody's
        self.device_type = self._device.type
        self.concurrent = self._device.type == "cpu"
        self._lock = threading.Lock()
        self._getting_ready, self._is_ready = threading.Lock(), False
        if options.precision not in ("float32", "bfloat16"):
            raise UsageError(
                f"a network is opened in float32 or bfloat16, not in {options.precision!r}; see in_precision"
            )
        if options.precision != "float32":
            self._go_over_to(options.precision)

    def layers(self) -> list[LayerInfo]:
        return self._table.listed()

    def resolve_layer(self, name: str) -> str:
        return self._table.resolve(name, self.name)

    @abstractmethod
    def collate(self, batch: Sequence[Any]) -> Inputs:
        """Prepared items as what the module is called with, on its device."""

    @abstractmethod
    def to_features(self, layer: str, output: torch.Tensor, batch: Sequence[Any]) -> Features:
        """The output of one layer (named without @CALL) for a batch as B x T x C with its mask and grid."""

    def has_bfloat16(self) -> bool:
        return has_bfloat16(self._device)

    def in_precision(self, precision: str) -> Self:
        if self._is_ready:
            raise RuntimeError("a network that has run stays in its precision")
        other = copy(self)
        other._module = deepcopy(self._module)
        other._lock, other._getting_ready = threading.Lock(), threading.Lock()
        other._go_over_to(precision)
        return other

    def _go_over_to(self, precision: str) -> None:
        """From now on, passes compute in `precision`; there was none yet, and weights are float32."""
        if precision == "bfloat16":
            lower(self._module)
        self.precision = precision
        self._autocast = precision == "bfloat16"

    def ready(self) -> None:
        """Called before every pass; before the first one the network is made ready."""
        if not self._is_ready:
            with self._getting_ready:
                if not self._is_ready:
                    self.make_ready()
                    self._is_ready = True

    def make_ready(self) -> None:
        """Brings the module into the form that is fastest; from now on its precision stays as it is."""

    def extract(self, batch: Sequence[Any], layers: Sequence[str]) -> dict[str, Features]:
        self.ready()  # which may put other modules in the place of some
        names = {layer: self._table.info(layer).name for layer in layers}
        modules = {layer: self._module.get_submodule(name) for layer, name in names.items()}
        wanted = {layer: self._table.call_of(layer) for layer in layers}
        inputs = self.collate(batch)
        with (
            nullcontext() if self.concurrent else self._alone(),
            torch.inference_mode(),
            torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._autocast),
        ):
            outputs = self._run(inputs, modules, wanted)
            return {layer: self.to_features(names[layer], outputs[layer], batch) for layer in layers}

    def to_device(self, x: torch.Tensor) -> torch.Tensor:
        """A tensor of the CPU on the network's device; to a GPU it goes from pinned memory, and nobody waits for it."""
        if self._device.type != "cuda":
            return x.to(self._device)
        return x.pin_memory().to(self._device, non_blocking=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (
            self._lock,
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            yield

    def _run(
        self, inputs: Inputs, modules: Mapping[str, nn.Module], wanted: Mapping[str, int]
    ) -> dict[str, torch.Tensor]:
        with reach_told(self._absent, self.weights_origin, list(wanted)):
            outputs = run_to(self._module, inputs, modules, wanted)
        beyond = [layer for layer, output in outputs.items() if output.is_meta]
        if beyond:
            raise out_of_reach(self._absent, self.weights_origin, beyond[:1])
        return outputs

    def absent_weights(self) -> list[str]:
        """Names of the parameters and buffers for which no weights were loaded."""
        return list(self._absent)
