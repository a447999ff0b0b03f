"""A recipe with nothing left open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from embedsearch.config import AUTO, Recipe
from embedsearch.errors import UsageError

if TYPE_CHECKING:
    from embedsearch.backbones import Backbone


def resolve(recipe: Recipe, backbone: Backbone) -> Recipe:
    """The recipe with everything that was left to the backbone written out, and aliases resolved."""
    from embedsearch.backbones import AVERAGES

    recipe.require_fitting(backbone.modality, backbone.name)
    if backbone.size is None and (recipe.scales != (1.0,) or recipe.fit != "crop"):
        name = "fit" if recipe.fit != "crop" else "scales"
        raise UsageError(
            f"{name} cannot be used: preprocess {backbone.preprocess} takes pictures whole, and fits them itself"
        )
    if recipe.long_texts == "chunk" and backbone.max_tokens is None:
        raise UsageError(f"chunks are windows of tokens, which {backbone.name} does not tell; they need bert or minilm")
    layers, combine = recipe.layers or (backbone.default_layer,), recipe.combine
    averages = [layer for layer in layers if layer in AVERAGES]
    if averages:
        if len(layers) > 1:
            raise UsageError(
                f"layer {averages[0]!r} is an average of layers and stands alone, not with {len(layers) - 1} more"
            )
        layers, combine = AVERAGES[layers[0]], "mean"
    names = tuple(backbone.resolve_layer(layer) for layer in layers)
    return replace(
        recipe,
        modality=backbone.modality,
        backbone=backbone.name,
        # absolute, so that a query from another folder finds them
        weights=str(Path(recipe.weights).absolute()) if Path(recipe.weights).exists() else recipe.weights,
        weights_sha256=backbone.weights_sha256,
        code_sha256=backbone.code_sha256,
        preprocess=backbone.preprocess,
        layers=names,
        combine=combine if len(layers) > 1 else "concat",
        pooling=recipe.pooling if recipe.pooling != AUTO else _usual_pooling(backbone, names),
        size=backbone.size,
        max_tokens=backbone.max_tokens,
        overlap=None if recipe.long_texts == "cut" else backbone.overlap,
    )


def _usual_pooling(backbone: Backbone, layers: tuple[str, ...]) -> str:
    """What a build takes where no pooling is named: the backbone's own where its layers are maps, else the mean."""
    if backbone.map_pooling == "mean":
        return "mean"
    blanks = backbone.blank(layers)
    maps = blanks is not None and all(features.grid is not None for features in blanks.values())
    return backbone.map_pooling if maps else "mean"
