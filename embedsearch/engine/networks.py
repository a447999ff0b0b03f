"""Looking at a network without its weights."""

from __future__ import annotations

from embedsearch.registry import BACKBONES
from embedsearch.types import LayerInfo


def describe(backbone: str, *, weights: str = "auto", size: int | None = None) -> tuple[list[LayerInfo], str]:
    """The layers of a registered network in the order in which they answer, and the default one's name.

    Needs no weights for torchvision networks; for the BERT family the configuration they come with.
    """
    layers: tuple[list[LayerInfo], str] = BACKBONES.get(backbone).describe(backbone, weights=weights, size=size)
    return layers
