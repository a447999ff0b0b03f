"""What is tried: layers, poolings, and what comes after them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from embedsearch.errors import UsageError
from embedsearch.types import LayerInfo

if TYPE_CHECKING:
    from embedsearch.backbones import Backbone
    from embedsearch.types import Features

MOST_LAYERS = 10
DIMS = (32, 64, 128, 256, 512, 1024)
POWERS = (1.0, 0.5)
_EARLY = 0.15  # of all GFLOP; what a network has seen before that are edges and colours
_OF_MAPS = ("mean", "max", "gem", "rmac", "gem-grid3x3")
_OF_TOKENS = ("mean", "mean-content", "max", "cls")
_JOINED_LAYERS, _JOINED_POOLINGS = 4, 2  # the best of each, of which pairs are made


@dataclass(frozen=True, slots=True)
class Cell:
    """One layer with one pooling: what a pass over the sample keeps."""

    layer: str
    pooling: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is chosen of a recipe. pca, whiten: at most one of the two."""

    layers: tuple[str, ...]
    pooling: str
    pca: int | None = None
    whiten: int | None = None
    whiten_power: float = 1.0

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(Cell(layer, self.pooling) for layer in self.layers)

    @property
    def projection(self) -> str:
        """PCA or whitening, for people; "" without."""
        if self.pca is not None:
            return f"PCA {self.pca}"
        if self.whiten is None:
            return ""
        return f"whitened {self.whiten}" + ("" if self.whiten_power == 1 else f", power {self.whiten_power:g}")

    def fields(self) -> dict[str, Any]:
        """As a recipe has them."""
        fields: dict[str, Any] = {"layers": list(self.layers), "combine": "concat", "pooling": self.pooling}
        if self.pca is not None:
            fields["pca"] = self.pca
        if self.whiten is not None:
            fields |= {"whiten": self.whiten, "whiten_power": self.whiten_power}
        return fields

    def __str__(self) -> str:
        told = f"{' + '.join(self.layers)}, {self.pooling}"
        return f"{told}, {self.projection}" if self.projection else told


def candidate_layers(backbone: Backbone, asked: Sequence[str]) -> list[str]:
    """The layers that are tapped, with the default one, in the order in which they answer.

    asked: names or aliases; empty takes every hidden state of a text encoder, and of other networks up to
    MOST_LAYERS that end a step of it (its ReLUs where it is a plain chain, else its blocks), evenly over what it
    costs, without the first _EARLY of that. Raises UsageError where a network does not tell enough for that.
    """
    infos = {info.name: info for info in backbone.layers()}
    default = backbone.resolve_layer(backbone.default_layer)
    names = [backbone.resolve_layer(name) for name in asked] if asked else _usual_layers(list(infos.values()))
    if not names:
        raise UsageError(
            f"{backbone.name} does not tell the shapes of its layers; name those to try with --layer "
            f"(`embedsearch layers {backbone.name}` lists them)"
        )
    order = {name: at for at, name in enumerate(infos)}
    return sorted({*names, default}, key=lambda name: (order[name.partition("@")[0]], name))


def _usual_layers(infos: Sequence[LayerInfo]) -> list[str]:
    hidden = [info.name for info in infos if any(alias.startswith("hidden.") for alias in info.aliases)]
    if hidden:
        return hidden
    known = [info for info in infos if info.shape is not None and len(info.shape) >= 2 and info.gflop]
    if not known:
        return []
    # a plain chain names its layers features.0, features.1, ...; other networks have blocks of their own classes
    is_chain = all(info.name.count(".") <= 1 for info in known)
    kinds = {"ReLU", "GELU", "Hardswish"} if is_chain else {info.type for info in known if _is_block(info)}
    most = max(info.gflop or 0.0 for info in known)
    ends = [info for info in known if info.type in kinds and (info.gflop or 0.0) >= _EARLY * most]
    ends = ends or known
    step = max(len(ends) / MOST_LAYERS, 1.0)
    places = {len(ends) - 1 - round(i * step) for i in range(MOST_LAYERS) if round(i * step) < len(ends)}
    return [ends[at].name for at in sorted(places)]


def _is_block(info: LayerInfo) -> bool:
    return any(word in info.type for word in ("Block", "Bottleneck", "Inverted", "MBConv", "Layer")) and (
        "LayerNorm" not in info.type
    )


def suiting(features: Features, asked: Sequence[str]) -> list[str]:
    """The poolings, of `asked` or of the usual ones, that suit a layer with such features."""
    from embedsearch.pooling import pool

    if asked:
        usual: Sequence[str] = asked
    elif features.grid is not None:
        usual = _OF_MAPS
    else:
        usual = _OF_TOKENS if features.mask is not None or features.values.shape[1] > 1 else ("mean",)
    fitting = []
    for pooling in usual:
        try:
            pool(features, pooling)
        except UsageError:
            continue
        fitting.append(pooling)
    return fitting


def with_projections(layers: tuple[str, ...], pooling: str, width: int, n_fit: int) -> list[Candidate]:
    """Without, and with PCA and whitening to every one of DIMS that vectors of `width` dimensions and a sample of
    `n_fit` can give."""
    found = [Candidate(layers, pooling)]
    for dim in DIMS:
        if dim < min(width, n_fit - 1):
            found += [Candidate(layers, pooling, pca=dim)]
            found += [Candidate(layers, pooling, whiten=dim, whiten_power=power) for power in POWERS]
    return found


def joined(ranked: Iterable[Candidate], order: Sequence[str]) -> list[tuple[tuple[str, ...], str]]:
    """Pairs of the best layers, with the best poolings. ranked: single layers, the best first. order: of the
    network."""
    layers, poolings, known = list[str](), list[str](), set[Cell]()
    for candidate in ranked:
        cell = candidate.cells[0]
        known.add(cell)
        if cell.layer not in layers:
            layers.append(cell.layer)
        if cell.pooling not in poolings:
            poolings.append(cell.pooling)
    return [
        (pair, pooling)
        for pooling in poolings[:_JOINED_POOLINGS]
        for pair in combinations(sorted(layers[:_JOINED_LAYERS], key=list(order).index), 2)
        if all(Cell(layer, pooling) in known for layer in pair)
    ]
