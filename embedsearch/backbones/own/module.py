"""Any torch module of the user's own, in memory or made by code that they name; it is never changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Self

import torch
from torch import nn

from embedsearch.backbones.base import Backbone, BackboneOptions
from embedsearch.backbones.files.weights import check_sha256
from embedsearch.backbones.module_state import (
    absent_tensors,
    alone_with,
    evaluation_mode,
    no_mixing,
    out_of_reach,
    reach_told,
    tensors_of,
    tensors_sha256,
)
from embedsearch.backbones.outputs import as_features, batch_axis_first, padded
from embedsearch.backbones.own.calls import CallCounts, Calls
from embedsearch.backbones.own.factory import make_network
from embedsearch.backbones.own.items import as_inputs, signature, stack
from embedsearch.backbones.own.preprocess import Preprocess, open_preprocess
from embedsearch.backbones.own.user_code import absolute, code_name, code_sha256
from embedsearch.backbones.probe import PROBE_BATCH, probe
from embedsearch.backbones.tap import Inputs, no_such_call, run_through, run_to
from embedsearch.config import FROM_FACTORY, MODULE_SCHEME
from embedsearch.errors import CodeError, EmbedSearchError, ItemError, UsageError, unknown
from embedsearch.types import Features, LayerInfo, Modality

_OTHER_NETWORK = "give the network as it was, with --backbone or backbone=, or its weights with --weights"
_SIDE = 224  # pixels, for pictures where no size is named
_NOT_OF_ITEMS = "whose rows are not those of the items; take a layer whose first axis is the batch"
# layers that give B x C x places; of what others give, B x T x C, the middle axis is taken for the places
_PLACES_LAST = tuple(
    getattr(nn, f"{kind}1d")
    for kind in (
        "Conv", "ConvTranspose", "BatchNorm", "InstanceNorm", "MaxPool", "AvgPool",
        "AdaptiveMaxPool", "AdaptiveAvgPool",
    )
)  # fmt: skip


class ModuleBackbone(Backbone):
    """A torch module whose forward pass is known by running it only.

    Its training flags, hooks, gradient flags, device and weights are after every call as they were
    before, also when its forward pass raises.
    """

    def __init__(self, name: str, options: BackboneOptions) -> None:
        """name: module:FILE_OR_PACKAGE:FACTORY; see `make_network`."""
        module, preprocess, origin = make_network(name, options)
        self._setup(absolute(name), module, options, preprocess, origin)

    @classmethod
    def of(cls, module: nn.Module, options: BackboneOptions) -> Self:
        """The backbone of a module in memory, which stays on its device and keeps its weights."""
        backbone = cls.__new__(cls)
        if options.weights != "auto":
            raise UsageError(f"weights {options.weights!r}: a network given in Python has weights; load them yourself")
        backbone._setup(code_name(module), module, options, None, "the network's own")
        return backbone

    def _setup(
        self,
        name: str,
        module: nn.Module,
        options: BackboneOptions,
        preprocess: Callable[[Any], Any] | str | None,
        origin: str,
    ) -> None:
        if isinstance(module, torch.jit.ScriptModule):
            raise UsageError(f"{name} is a TorchScript module, whose layers cannot be tapped; give the Python module")
        self.name = name
        self._module = module
        self._named = self._names(module)
        self.default_layer = self._root()
        self.modality = options.modality or Modality.TENSOR
        self._preprocess = self._open_preprocess(options, preprocess)
        self.preprocess = self._preprocess.name
        self.code_sha256 = code_sha256([name, self.preprocess])
        if self._preprocess.fits_size:
            self.size = options.size or self._usual_size()
        elif options.size is not None:
            raise UsageError(f"size is {options.size}, but {self._preprocess.told}; leave size out")
        tensors = [*module.parameters(), *module.buffers()]
        self._device = next((t.device for t in tensors if not t.is_meta), torch.device("cpu"))
        if options.device not in ("auto", str(self._device), self._device.type):
            raise UsageError(f"device {options.device!r}: the network lies on {self._device}; move it yourself")
        self._dtype = next((t.dtype for t in tensors if t.is_floating_point()), None)
        self.precision, self._channels = options.precision, options.channels
        self.weights_sha256, self.weights_origin = self._sha256(), origin
        self._expected, self._versions = options.expect_sha256, self._versions_now()
        check_sha256(self.weights_sha256, options.expect_sha256, origin, _OTHER_NETWORK)
        # a recurrent or attention layer that is itself the network, and reads its batch second
        self._batch_axis = 1 if getattr(module, "batch_first", True) is False else 0
        self._counts = CallCounts(module, self._named, self._batch_axis)

    def _names(self, module: nn.Module) -> dict[str, nn.Module]:
        """The network itself, first, and its `_parts`."""
        named = self._parts(module)
        return {("output" if "output" not in named else "(output)"): module, **named}

    def _parts(self, module: nn.Module) -> dict[str, nn.Module]:
        """The layers inside a network, by the names they are asked for."""
        return {name: part for name, part in module.named_modules(remove_duplicate=False) if name}

    def _root(self) -> str:
        """The name of the network's own answer."""
        return next(iter(self._named))

    def _open_preprocess(self, options: BackboneOptions, preprocess: Callable[[Any], Any] | str | None) -> Preprocess:
        wanted = options.preprocess
        if wanted in (None, FROM_FACTORY) and preprocess is not None:
            return replace(open_preprocess(preprocess, self.modality, None, self.name), name=FROM_FACTORY)
        if wanted == FROM_FACTORY:
            raise CodeError(f"the factory {self.name} gave a preprocess when the index was built, and gives none now")
        return open_preprocess(wanted, self.modality, "torch", self.name)

    def _usual_size(self) -> int:
        """Pixels of a picture where no size is named."""
        return _SIDE

    def _sha256(self) -> str:
        return tensors_sha256({name: t for name, t in tensors_of(self._module).items() if not t.is_meta})

    @classmethod
    def describe(cls, name: str, *, weights: str, size: int | None, example: Any = None) -> tuple[list[LayerInfo], str]:
        backbone = cls(name, BackboneOptions(weights=weights))
        return backbone._seen_by(example, size or _SIDE), backbone.default_layer

    def _seen_by(self, example: Any, side: int) -> list[LayerInfo]:
        """What a pass over `example`, or a picture of `side` pixels, finds of every layer.

        Raises ItemError when the network cannot read the example.
        """
        item = self._usual_item(side) if example is None else self.prepare([example])[0]
        if isinstance(item, ItemError):
            raise item
        if item is None:
            return self.layers()
        try:
            with evaluation_mode(self._module), torch.no_grad():
                return probe(self._module, self._collate([item] * PROBE_BATCH), self._named)
        except Exception as error:  # of the network's own code
            if example is None:  # it reads something else than pictures of that size
                return self.layers()
            raise _raised(error, item) from error

    def _usual_item(self, side: int) -> Inputs | None:
        """An item for a network of which nothing is known: a picture."""
        return as_inputs(torch.zeros((3, side, side)), self._dtype, self._device)

    def layers(self) -> list[LayerInfo]:
        known = self._counts.infos
        return [known.get(name) or _unseen(name, part) for name, part in self._named.items()]

    def resolve_layer(self, name: str) -> str:
        bare, at, call = name.partition("@")
        if bare not in self._named:
            hint = f"(`embedsearch layers {self.name}` lists them)" if self.name.startswith(MODULE_SCHEME) else ""
            raise unknown("layer", bare, self._named, hint)
        if at and not (call.isdigit() and int(call) >= 1):
            raise UsageError(f"layer {name!r}: a call is a number from 1 on, as in {bare}@1")
        return name

    def prepare(self, values: Sequence[Any]) -> list[Any]:
        return [self._preprocess(value, lambda made: as_inputs(made, self._dtype, self._device)) for value in values]

    def bucket(self, prepared: Any) -> Hashable:
        return signature(prepared)

    def in_precision(self, precision: str) -> Self:
        other = copy(self)  # the module itself is not changed by it, and what is known of it goes for both
        other.precision = precision
        return other

    def extract(self, batch: Sequence[Any], layers: Sequence[str]) -> dict[str, Features]:
        try:
            return self._extract(batch, layers)
        except (EmbedSearchError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # of the network's own code, perhaps for one item of the batch only
            raise _raised(error, batch[0]) from error

    def _extract(self, batch: Sequence[Any], layers: Sequence[str]) -> dict[str, Features]:
        self._require_unchanged()
        inputs = self._collate(batch)
        modules = {layer: self._named[layer.partition("@")[0]] for layer in layers}
        with (
            alone_with(self._module),
            evaluation_mode(self._module),
            # not inference_mode: what a module caches in its forward pass must serve its training later
            torch.no_grad(),
            torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
            # looked for in each batch anew, for the owner of the network may change it between two
            reach_told(absent_tensors(self._module), self.weights_origin, layers),
            no_mixing(self._module),
        ):
            outputs = self._run(inputs, batch[0], modules)
            return {
                layer: self._features(layer, outputs[layer], modules[layer], inputs, len(batch)) for layer in layers
            }

    def _versions_now(self) -> list[tuple[int, int]]:
        """Changes whenever somebody trains the network or puts other weights into it."""
        tensors = self._module.parameters()
        return [(id(tensor), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]

    def _require_unchanged(self) -> None:
        """Raises ContradictionError when an index needs the network as it was, and it is not so any more."""
        if self._expected is None:
            return
        now = self._versions_now()
        if now != self._versions:
            check_sha256(self._sha256(), self._expected, self.weights_origin, _OTHER_NETWORK)
            self._versions = now

    def _collate(self, batch: Sequence[Inputs]) -> Inputs:
        return stack(batch, self._batch_axis)

    def _calls(self, item: Inputs, layers: Collection[str]) -> Calls | None:
        """How a pass over items like this one calls each layer; None where that cannot be told beforehand
        for all of `layers`."""
        return self._counts.of(item)

    def _run(self, inputs: Inputs, item: Inputs, modules: Mapping[str, nn.Module]) -> dict[str, torch.Tensor]:
        calls = self._calls(item, {layer.partition("@")[0] for layer in modules})
        if calls is None and all("@" in layer for layer in modules):
            return run_to(self._module, inputs, modules, {layer: int(layer.partition("@")[2]) for layer in modules})
        if calls is None:  # its forward pass looks at numbers, so the whole of it has to run to count calls
            every = run_through(self._module, inputs, modules)
            return {layer: _chosen(layer, outputs) for layer, outputs in every.items()}
        wanted = {}
        for layer in modules:
            bare, _, call = layer.partition("@")
            known = calls.get(bare, ())
            wanted[layer] = int(call) if call else len(known)
            if not 1 <= wanted[layer] <= len(known):
                raise no_such_call(layer, len(known))
            if not known[wanted[layer] - 1]:
                raise UsageError(f"layer {layer!r} gives an answer {_NOT_OF_ITEMS}")
        return run_to(self._module, inputs, modules, wanted)

    def _features(self, layer: str, output: torch.Tensor, module: nn.Module, inputs: Inputs, n: int) -> Features:
        if output.is_meta:
            raise out_of_reach(absent_tensors(self._module), self.weights_origin, [layer])
        mask = self._mask_of(layer, inputs)
        if output.is_nested:  # torch's own transformer, and packed sequences, leave padding out
            output, mask = padded(output)
        else:
            output = batch_axis_first(output, module)
        if output.shape[:1] != (n,):
            raise UsageError(f"layer {layer!r} gives {tuple(output.shape)} for {n} items, an answer {_NOT_OF_ITEMS}")
        last = self._channels == "last"
        if output.ndim == 3 and (self._channels == "first" or (not last and self._places_last(module))):
            output = output.transpose(1, 2)
        last = last or (self._channels == "auto" and self._channels_last(module))
        return as_features(output, layer, channels_last=last, mask=None if mask is None else mask.bool())

    def _mask_of(self, layer: str, inputs: Inputs) -> torch.Tensor | None:
        """Which tokens of a layer's output are real, where something tells: B x T, not 0 for real ones."""
        mask: torch.Tensor | None = inputs.kwargs.get("attention_mask")
        return mask

    def _channels_last(self, module: nn.Module) -> bool:
        return isinstance(module, nn.Linear | nn.LayerNorm | nn.Embedding)

    def _places_last(self, module: nn.Module) -> bool:
        return isinstance(module, _PLACES_LAST)

    def blank(self, layers: Sequence[str]) -> dict[str, Features] | None:
        example = self._preprocess.example(self.size)
        if example is None:
            return None
        prepared = self.prepare([example])
        if isinstance(prepared[0], Exception):
            raise prepared[0]
        try:
            return self.extract(prepared, layers)
        except ItemError as error:
            what = f"a picture of {self.size} px" if self.size else f"{self.modality.value}s through its preprocess"
            fix = "; give its size, or a preprocess" if self.size else ""
            raise UsageError(f"{self.name} cannot read {what}: {error}{fix}") from error


def _raised(error: Exception, item: Inputs) -> ItemError:
    """What the network's own code raises for an item, in one line."""
    tensors = [*item.args, *item.kwargs.values()]
    shapes = " and ".join(f"{' x '.join(map(str, t.shape)) or 'one number'} of {str(t.dtype)[6:]}" for t in tensors)
    reason = str(error).strip().partition("\n")[0]
    return ItemError(f"the network raises {type(error).__name__} for {shapes}: {reason}")


def _chosen(layer: str, outputs: list[torch.Tensor]) -> torch.Tensor:
    call = layer.partition("@")[2]
    number = int(call) if call else len(outputs)
    if not 1 <= number <= len(outputs):
        raise no_such_call(layer, len(outputs))
    return outputs[number - 1]


def _unseen(name: str, part: nn.Module) -> LayerInfo:
    return LayerInfo(name, type(part).__name__, None, None, None)
