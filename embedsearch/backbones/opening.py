"""From a registered name to a network with its weights."""

from __future__ import annotations

from typing import Any

from embedsearch.backbones.base import Backbone, BackboneOptions
from embedsearch.registry import BACKBONES


def open_backbone(name: str, **options: Any) -> Backbone:
    """The network registered as `name`, with its weights, ready to extract.

    options: the fields of BackboneOptions. Raises UnknownNameError, UsageError, WeightsError.
    """
    backbone: Backbone = BACKBONES.get(name)(name, BackboneOptions(**options))
    return backbone
