"""The named parameters of files and of networks in memory, and which of them are embedding layers'."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from embedsearch.backbones.files.keras_file import load_keras_model
from embedsearch.backbones.files.weights import read_weights
from embedsearch.config import KERAS_SUFFIXES
from embedsearch.errors import UsageError

# name -> tensor or array; name of an embedding layer -> name of its parameter
Parameters = tuple[Mapping[str, Any], Mapping[str, str]]


def file_parameters(path: Path) -> Parameters:
    """What a .pt, .pth, .bin, .safetensors, .keras or .h5 file holds. Raises WeightsError when it cannot be read."""
    if path.suffix in KERAS_SUFFIXES:
        return _keras_parameters(load_keras_model(path))
    return read_weights(path).state, {}


def model_parameters(model: Any) -> Parameters:
    """Those of a torch module or a Keras model or layer, without gradients; the tensors are the model's own."""
    # whoever passes a Keras model has imported keras; on its torch backend the model is a torch module as well
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(model, keras.Layer):
        return _keras_parameters(model)
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"a table cannot be read from {type(model).__name__}; give a path, a torch module, a Keras model "
            "or a mapping of names to arrays"
        )
    tensors = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    layers = {
        name: f"{name}.weight".lstrip(".")
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag)
    }
    return tensors, layers


def _keras_parameters(model: Any) -> Parameters:
    """Weights by Keras' own path, without the model's name before it."""
    keras = sys.modules["keras"]
    own = f"{model.name}/" if isinstance(model, keras.Model) else ""
    values: dict[str, Any] = {}
    for weight in model.weights:
        values.setdefault(weight.path.removeprefix(own), _value(weight))
    layers: dict[str, str] = {}
    for layer in model._flatten_layers():  # `layers` does not reach those inside a subclassed model's attributes
        if isinstance(layer, keras.layers.Embedding) and layer.built:
            path = next(weight.path for weight in layer.weights if weight.name == "embeddings").removeprefix(own)
            values[path] = _value(layer.embeddings)  # with LoRA more than the weight
            layers.setdefault("" if layer is model else layer.name, path)
    return values, layers


def _value(weight: Any) -> Any:
    """A Keras variable's tensor, or its array where keras runs on another framework."""
    value = getattr(weight, "value", weight)
    return value.detach() if isinstance(value, torch.Tensor) else sys.modules["keras"].ops.convert_to_numpy(value)
