"""Pooling by name, and the average of layers before it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch

from embedsearch.errors import UsageError
from embedsearch.registry import POOLING
from embedsearch.types import Features


def pool(features: Features, pooling: str, *, gem_p: float = 3.0) -> torch.Tensor:
    """`features` pooled by the registered name `pooling`, as float32 B x D.

    gem_p: goes to functions that take an exponent `p`. Raises UsageError when the layer does not suit it.
    """
    function = POOLING.get(pooling)
    if features.values.dtype != torch.float32:
        features = Features(features.values.float(), features.mask, features.grid, features.roles)
    takes_p = "p" in inspect.signature(function).parameters
    pooled: torch.Tensor = function(features, p=gem_p) if takes_p else function(features)
    return pooled


def average(layers: Sequence[Features], weights: Sequence[float]) -> Features:
    """The weighted mean of several layers' activations, place by place.

    Raises UsageError when their shapes differ.
    """
    shapes = {(tuple(features.values.shape[1:]), features.grid) for features in layers}
    if len(shapes) > 1:
        told = " and ".join(sorted(" x ".join(map(str, shape)) for shape, _ in shapes))
        raise UsageError(f"layers of different shapes cannot be averaged ({told}); combine them with 'concat'")
    values = torch.stack([features.values.float() * weight for features, weight in zip(layers, weights, strict=True)])
    first = layers[0]
    return Features(values.sum(dim=0) / sum(weights), first.mask, first.grid, first.roles)
