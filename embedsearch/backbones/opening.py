"""From a registered name to a network with its weights."""

from __future__ import annotations

from embedsearch.backbones.base import Backbone
from embedsearch.registry import BACKBONES


def open_backbone(
    name: str,
    *,
    weights: str = "auto",
    size: int | None = None,
    max_tokens: int | None = None,
    device: str = "auto",
    precision: str = "float32",
    expect_sha256: str | None = None,
) -> Backbone:
    """The network registered as `name`, with its weights, ready to extract.

    weights: "auto", "packaged", a path, or what the family knows (a torchvision weights name, a hub
    name). size, max_tokens: None takes the network's own. expect_sha256: the hash that a manifest
    recorded; with weights="auto", every place that "auto" looks at is tried for it.
    Raises UnknownNameError, UsageError, WeightsError.
    """
    backbone: Backbone = BACKBONES.get(name)(
        name,
        weights=weights,
        size=size,
        max_tokens=max_tokens,
        device=device,
        precision=precision,
        expect_sha256=expect_sha256,
    )
    return backbone
