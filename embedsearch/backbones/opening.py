"""From a name, or a network in memory, to one that is ready to extract."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from torch import nn

from embedsearch.backbones.base import Backbone, BackboneOptions
from embedsearch.config import KERAS_SUFFIXES, MEMORY_SCHEME, TORCH_SUFFIXES
from embedsearch.errors import CodeError, UsageError
from embedsearch.registry import BACKBONES

# what people write who mean a network of their own, and what they should write
_OWN = {
    (".py",): "for code of your own write module:FILE.py:FACTORY",
    KERAS_SUFFIXES: "for a Keras model write keras:{name}",
    TORCH_SUFFIXES: "a file of weights is given with --weights, beside module:FILE.py:FACTORY; "
    "for the rows of an embedding table build {name}::PARAMETER",
}


def open_backbone(name: str, *, module: Any = None, **options: Any) -> Backbone:
    """The network `name` with its weights, ready to extract.

    name: registered, or SCHEME:REST with a registered scheme (module:net.py:make, keras:model.keras).
    module: a torch module or Keras model in memory, instead. options: the fields of BackboneOptions.
    Raises UnknownNameError, UsageError, WeightsError, CodeError.
    """
    given = BackboneOptions(**options)
    if module is not None:
        return _of(module, given)
    if name.startswith(MEMORY_SCHEME):
        raise CodeError(
            f"the network {name.removeprefix(MEMORY_SCHEME)} was given in Python and is not stored with the index; "
            "give it again: embedsearch.open(path, backbone=the_network), or --backbone module:FILE.py:FACTORY"
        )
    backbone: Backbone = backbone_class(name)(name, given)
    return backbone


def backbone_class(name: str) -> Any:
    """The class behind a registered name, or behind the scheme that `name` begins with."""
    scheme, colon, _ = name.partition(":")
    if scheme + colon in BACKBONES:
        return BACKBONES.get(scheme + colon)
    suffix = Path(name.rpartition(":")[0] if colon else name).suffix
    for suffixes, fix in _OWN.items():
        if suffix in suffixes:
            raise UsageError(f"backbone {name!r} is not known; {fix.format(name=name)}")
    return BACKBONES.get(name)


def _of(module: Any, options: BackboneOptions) -> Backbone:
    keras = sys.modules.get("keras")  # a Keras model is there only where Keras was imported
    if keras is not None and isinstance(module, keras.layers.Layer):
        from embedsearch.backbones.own.keras_model import KerasBackbone

        return KerasBackbone.of(module, options)
    if not isinstance(module, nn.Module):
        raise UsageError(f"backbone must be a name, a torch.nn.Module or a Keras model, not {type(module).__name__}")
    from embedsearch.backbones.own.module import ModuleBackbone

    return ModuleBackbone.of(module, options)
