"""Networks cut at a layer. The only package, with pooling, that imports torch."""

from embedsearch.backbones.base import Backbone
from embedsearch.backbones.opening import open_backbone

__all__ = ["Backbone", "open_backbone"]
