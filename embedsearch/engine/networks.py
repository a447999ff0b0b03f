"""Looking at a network without its weights."""

from __future__ import annotations

from typing import Any

from embedsearch.config import is_own
from embedsearch.errors import UsageError
from embedsearch.types import LayerInfo


def describe(
    backbone: str, *, weights: str = "auto", size: int | None = None, example: Any = None
) -> tuple[list[LayerInfo], str]:
    """The layers of a network in the order in which they answer, and the default one's name.

    backbone: a registered name, module:FILE:FACTORY or keras:PATH. Needs no weights for torchvision
    networks; for the BERT family the configuration they come with. Shapes of a network of your own are
    found with `example`, else with a picture of `size` pixels or the shape that a Keras model names.
    """
    from embedsearch.backbones import backbone_class

    if example is not None and not is_own(backbone):
        raise UsageError(f"an example input is for networks of your own; what {backbone} reads is known")
    layers: tuple[list[LayerInfo], str] = backbone_class(backbone).describe(
        backbone, weights=weights, size=size, example=example
    )
    return layers
