"""Pooling: pure functions from Features (B x T x C) to B x C. Masked places never count."""

from __future__ import annotations

import torch

from embedsearch.errors import UsageError
from embedsearch.registry import POOLING
from embedsearch.types import Features


def pool(features: Features, pooling: str, *, gem_p: float = 3.0) -> torch.Tensor:
    """`features` pooled by the registered name `pooling`, as float32 B x C."""
    function = POOLING.get(pooling)
    if features.values.dtype != torch.float32:
        features = Features(features.values.float(), features.mask, features.grid)
    pooled: torch.Tensor = function(features, p=gem_p) if pooling == "gem" else function(features)
    return pooled


def mean_pool(features: Features) -> torch.Tensor:
    """The mean over places: SPoC of Babenko & Lempitsky, "Aggregating Deep Convolutional Features for
    Image Retrieval" (2015), without its centre prior; for tokens the mean of Sentence-BERT, Reimers &
    Gurevych (2019)."""
    if features.mask is None:
        return features.values.mean(dim=1)
    weight = features.mask.unsqueeze(-1).to(features.values.dtype)  # B x T x 1
    return (features.values * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def max_pool(features: Features) -> torch.Tensor:
    """The maximum over places: MAC of Tolias, Sicre & Jégou, "Particular object retrieval with integral
    max-pooling of CNN activations" (2016)."""
    values = features.values
    if features.mask is not None:
        values = values.masked_fill(~features.mask.unsqueeze(-1), float("-inf"))
    return values.amax(dim=1)


def gem_pool(features: Features, p: float = 3.0, eps: float = 1e-6) -> torch.Tensor:
    """The generalised mean (mean of max(x, eps)^p)^(1/p), of Radenović, Tolias & Chum, "Fine-tuning CNN
    Image Retrieval with No Human Annotation" (2018). p = 1 is the mean, p -> infinity the maximum of
    what is positive."""
    values = features.values.clamp(min=eps)
    if features.mask is not None:
        values = values.masked_fill(~features.mask.unsqueeze(-1), eps)
    # scaled by each channel's maximum: x^p of a large activation would leave float32 for p above 10
    top = values.amax(dim=1, keepdim=True)
    powers = Features((values / top).pow(p), features.mask, features.grid)
    return mean_pool(powers).clamp(min=torch.finfo(torch.float32).tiny).pow(1.0 / p) * top.squeeze(1)


def cls_pool(features: Features) -> torch.Tensor:
    """The first token, which BERT, Devlin et al. (2019), and ViT, Dosovitskiy et al. (2021), reserve for
    the whole. Raises UsageError for a map, which has no such place."""
    if features.grid is not None:
        raise UsageError("pooling 'cls' needs a layer of tokens; this one gives a map, use mean, max or gem")
    return features.values[:, 0]
