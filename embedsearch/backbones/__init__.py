"""Networks cut at a layer. The only package, with pooling, that imports torch."""

from embedsearch.backbones.aliases import AVERAGES
from embedsearch.backbones.base import Backbone, devices_of
from embedsearch.backbones.opening import backbone_class, open_backbone

__all__ = ["AVERAGES", "Backbone", "backbone_class", "devices_of", "open_backbone"]
