"""Pooling: pure functions from Features (B x T x C) to B x D. Masked places never count."""

from __future__ import annotations

import torch

from embedsearch.errors import UsageError
from embedsearch.types import CLASS, CONTENT, Features


def mean_pool(features: Features) -> torch.Tensor:
    """The mean over places: SPoC of Babenko & Lempitsky, "Aggregating Deep Convolutional Features for
    Image Retrieval" (2015), without its centre prior; for tokens the mean of Sentence-BERT, Reimers &
    Gurevych (2019)."""
    if features.mask is None:
        return features.values.mean(dim=1)
    weight = features.mask.unsqueeze(-1).to(features.values.dtype)  # B x T x 1
    return (features.values * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def mean_content_pool(features: Features) -> torch.Tensor:
    """The mean over tokens that are the item's own: without [CLS], [SEP] and the like, and without the
    class token of a ViT. The same as the mean where there are no such tokens, and for a text that has
    no other ones. Of Reimers & Gurevych, "Sentence-BERT" (2019), the mean with the special tokens masked.
    """
    if features.roles is None:
        return mean_pool(features)
    real = torch.ones_like(features.roles, dtype=torch.bool) if features.mask is None else features.mask
    own = real & (features.roles == CONTENT)
    own = torch.where(own.any(dim=1, keepdim=True), own, real)
    return mean_pool(Features(features.values, own))


def max_pool(features: Features) -> torch.Tensor:
    """The maximum over places or tokens: MAC of Tolias, Sicre & Jégou, "Particular object retrieval with
    integral max-pooling of CNN activations" (2016)."""
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
    """The token that BERT, Devlin et al. (2019), and ViT, Dosovitskiy et al. (2021), reserve for the
    whole; of a text of several windows the mean of theirs; the first token where none is marked.
    Raises UsageError for a map, which has no such place."""
    if features.grid is not None:
        raise UsageError("pooling 'cls' needs a layer of tokens; this one gives a map, use mean, max or gem")
    first = features.values[:, 0]
    if features.roles is None:
        return first
    marked = features.roles == CLASS
    if features.mask is not None:
        marked = marked & features.mask
    return torch.where(marked.any(dim=1, keepdim=True), mean_pool(Features(features.values, marked)), first)


def flatten_pool(features: Features) -> torch.Tensor:
    """Every activation, place after place: B x (T * C). For fully connected layers that is the layer
    itself; a map keeps everything, as in Babenko et al., "Neural Codes for Image Retrieval" (2014).
    Raises UsageError for tokens, whose number differs from text to text."""
    if features.mask is not None and features.values.shape[1] > 1:
        raise UsageError("pooling 'flatten' needs a layer of one size; this one gives tokens, use mean, max or cls")
    return features.values.flatten(1)
