"""Keras 3 models on Keras' torch backend, where every layer is a torch module too and can be tapped as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from embedsearch.backbones.base import BackboneOptions
from embedsearch.backbones.files.keras_file import import_keras, load_keras_model
from embedsearch.backbones.module_state import tensors_sha256
from embedsearch.backbones.own.calls import Calls
from embedsearch.backbones.own.items import stack
from embedsearch.backbones.own.keras_mask import MaskWatch
from embedsearch.backbones.own.module import ModuleBackbone
from embedsearch.backbones.own.preprocess import Preprocess, open_preprocess
from embedsearch.backbones.tap import Inputs
from embedsearch.config import KERAS_SCHEME
from embedsearch.errors import UsageError, WeightsError, unknown
from embedsearch.types import Features, Modality

_SCALING = ("Rescaling", "Normalization")  # layers with which a network scales its pixels by itself


class KerasBackbone(ModuleBackbone):
    """A Keras model (Sequential, functional, or subclassed) by the names of its layers.

    The forward pass goes from the inputs to the deepest layer that is asked for, with training=False and
    without gradients, as a sub-model of those layers would. Layers of nested models are OUTER.INNER, or
    by their own name where only one has it.
    """

    def __init__(self, name: str, options: BackboneOptions) -> None:
        """name: keras:PATH of a .keras or .h5 file."""
        path = Path(name.removeprefix(KERAS_SCHEME)).expanduser().absolute()
        model = load_keras_model(path)
        model.trainable = False
        origin = str(path)
        if options.weights != "auto":
            origin = options.weights
            try:
                model.load_weights(options.weights)
            except (OSError, ValueError) as error:
                raise WeightsError(f"weights {origin} do not fit {path}: {str(error).splitlines()[0]}") from error
        self._setup(f"{KERAS_SCHEME}{path}", model, options, None, origin)

    def _parts(self, module: nn.Module) -> dict[str, nn.Module]:
        import_keras()  # a model in memory may be of another backend
        model: Any = module
        if not model.built:
            raise UsageError(f"the model {model.name!r} has no weights yet; call it once on a batch, or build it")
        named = dict(_walk(model, ""))
        self._formats = {layer.data_format for layer in named.values() if _works_on_maps(layer)}
        own = Counter(name.rpartition(".")[2] for name in named)
        self._short = {
            name.rpartition(".")[2]: name for name in named if "." in name and own[name.rpartition(".")[2]] == 1
        }
        return named

    def _sha256(self) -> str:
        model: Any = self._module
        # by place, for Keras numbers names anew in every process
        return tensors_sha256({f"{i:06d}": weight.value for i, weight in enumerate(model.weights)})

    def _open_preprocess(self, options: BackboneOptions, preprocess: Any) -> Preprocess:
        scales_itself = any(type(layer).__name__ in _SCALING for layer in list(self._named.values())[1:5])
        return open_preprocess(
            options.preprocess,
            self.modality,
            "raw" if scales_itself else None,
            f"the Keras model {self.name.removeprefix(KERAS_SCHEME)}",
            channels_first=self._data_format(self._module) == "channels_first",
        )

    def _usual_size(self) -> int:
        shape = self._input_shapes()[0] if self._input_shapes() else ()
        sides = shape[:2] if self._data_format(self._module) == "channels_last" else shape[1:]
        return int(sides[0]) if len(shape) == 3 and sides[0] is not None else super()._usual_size()

    def _usual_item(self, side: int) -> Inputs | None:
        return self._zeros(side)

    def resolve_layer(self, name: str) -> str:
        bare, at, call = name.partition("@")
        bare = self._short.get(bare, bare)
        if bare in self._named:
            return super().resolve_layer(bare + at + call)
        several = [full for full in self._named if full.rpartition(".")[2] == bare]
        if several:
            raise UsageError(f"layer {bare!r} is in several models; name one: {', '.join(several)}")
        raise unknown("layer", bare, [*self._named, *self._short])

    def _collate(self, batch: Sequence[Inputs]) -> Inputs:
        return self._called_with(stack(batch))

    def _called_with(self, inputs: Inputs) -> Inputs:
        """A functional model with named inputs takes them as one dictionary; all take training=False."""
        if inputs.kwargs:
            return Inputs((dict(inputs.kwargs),), {"training": False})
        args = inputs.args if len(inputs.args) == 1 else (list(inputs.args),)
        return Inputs(args, {"training": False})

    def _calls(self, item: Inputs, layers: Collection[str]) -> Calls | None:
        # by layer, for one may stand in several models; None for what is called by code that Keras does not know
        counts: dict[int, int | None] = {}
        _count(self._module, 1, counts)
        counts[id(self._module)] = 1
        known = {name: counts.get(id(part)) for name, part in self._named.items()}
        calls = {name: [True] * n for name, n in known.items() if n is not None}
        return calls if all(layer in calls for layer in layers) else None

    def _run(self, inputs: Inputs, item: Inputs, modules: Mapping[str, nn.Module]) -> dict[str, torch.Tensor]:
        """The outputs, and beside them the masks that Keras passes from layer to layer (of padding, mostly)."""
        watches = {layer: MaskWatch(module) for layer, module in modules.items()}
        try:
            return super()._run(inputs, item, modules)
        finally:
            for watch in watches.values():
                watch.stop()
            self._masks = {layer: watch.masks for layer, watch in watches.items()}

    def _mask_of(self, layer: str, inputs: Inputs) -> torch.Tensor | None:
        call = layer.partition("@")[2]
        masks = self._masks.get(layer) or [None]
        return masks[int(call) - 1 if call else -1]

    def _channels_last(self, module: nn.Module) -> bool:
        return self._data_format(module) == "channels_last"

    def _places_last(self, module: nn.Module) -> bool:
        return getattr(module, "data_format", None) == "channels_first"

    def _data_format(self, layer: Any) -> str:
        """Its own; of a layer that has none, that of the convolutions around it."""
        around = next(iter(self._formats)) if len(self._formats) == 1 else import_keras().config.image_data_format()
        return getattr(layer, "data_format", None) or str(around)

    def blank(self, layers: Sequence[str]) -> dict[str, Features] | None:
        if self.modality is not Modality.TENSOR:
            return super().blank(layers)
        zeros = self._zeros(None)
        return None if zeros is None else self.extract([zeros], layers)

    def _input_shapes(self) -> list[tuple[int | None, ...]]:
        """Shapes without the batch axis, [] for a subclassed model, which does not tell."""
        return [tuple(tensor.shape[1:]) for tensor in getattr(self._module, "inputs", None) or []]

    def _zeros(self, side: int | None) -> Inputs | None:
        """An item of zeros; None where the model does not tell its shape. side: for axes it leaves open."""
        model: Any = self._module
        tensors = getattr(model, "inputs", None) or []
        shapes = [tuple((side or 0) if n is None else n for n in shape) for shape in self._input_shapes()]
        if not shapes or any(0 in shape for shape in shapes):
            return None
        dtypes = [getattr(torch, str(tensor.dtype), torch.float32) for tensor in tensors]
        zeros = [
            torch.zeros(shape, dtype=dtype, device=self._device) for shape, dtype in zip(shapes, dtypes, strict=True)
        ]
        if isinstance(getattr(model, "input", None), dict):
            places = {id(tensor): zero for tensor, zero in zip(tensors, zeros, strict=True)}
            return Inputs(kwargs={name: places[id(tensor)] for name, tensor in model.input.items()})
        return Inputs(tuple(zeros))


def _walk(model: Any, prefix: str) -> list[tuple[str, nn.Module]]:
    found = []
    for layer in _inner(model):
        found.append((prefix + layer.name, layer))
        found += _walk(layer, f"{prefix}{layer.name}.")
    return found


def _inner(layer: Any) -> list[Any]:
    """The layers directly inside a model or a layer made of layers; placeholders of inputs are none."""
    if hasattr(layer, "layers"):
        return [part for part in layer.layers if type(part).__name__ != "InputLayer"]
    return list(layer._flatten_layers(include_self=False, recursive=False))


def _works_on_maps(layer: Any) -> bool:
    return hasattr(layer, "data_format") and (hasattr(layer, "kernel_size") or hasattr(layer, "pool_size"))


def _count(model: Any, times: int, counts: dict[int, int | None]) -> None:
    """Adds how often a pass calls each layer of a model whose graph Keras knows."""
    functional = getattr(model, "_functional", None) or model  # that of a Sequential
    nodes = getattr(functional, "_nodes_by_depth", None)
    if nodes is None or not type(model).call.__module__.startswith("keras."):
        counts.update({id(layer): None for _, layer in _walk(model, "")})
        return
    own = Counter(id(node.operation) for depth in nodes.values() for node in depth)
    for layer in _inner(model):
        n_calls, before = times * own[id(layer)], counts.get(id(layer), 0)
        if n_calls:
            counts[id(layer)] = None if before is None else before + n_calls
            _count(layer, n_calls, counts)
