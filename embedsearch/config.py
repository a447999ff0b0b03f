"""The recipe: everything that decides what a vector is. Same recipe and item, same vector."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self, TypedDict, TypeVar

from embedsearch.errors import UsageError
from embedsearch.types import Metric, Modality

E = TypeVar("E", Metric, Modality)

FITS = ("crop", "pad", "squash")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an item becomes a vector.

    weights: as the user named them; weights_sha256: of the file(s) they came from, which is what counts.
    layers: dotted module names; vectors of several layers are L2-normalised and concatenated.
    size: pixels of the square input; fit: how a picture is brought to it. max_tokens: longer texts are
    cut there. pca / whiten: dimensions kept, at most one of the two. normalize: rows have unit length.
    """

    modality: Modality
    metric: Metric = Metric.COSINE
    backbone: str | None = None
    weights: str = "auto"
    weights_sha256: str | None = None
    layers: tuple[str, ...] = ()
    pooling: str = "mean"
    gem_p: float = 3.0
    size: int | None = None
    fit: str = "crop"
    max_tokens: int | None = None
    pca: int | None = None
    whiten: int | None = None
    normalize: bool = True
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise UsageError(f"fit {self.fit!r} is not known; valid: {', '.join(FITS)}")
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision {self.precision!r} is not known; valid: {', '.join(PRECISIONS)}")
        if self.pca is not None and self.whiten is not None:
            raise UsageError("pca and whiten are both set; whitening already reduces by PCA, so give one")
        for name in ("pca", "whiten", "size", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; it must be at least 1")
        if not (self.gem_p > 0 and self.gem_p < float("inf")):
            raise UsageError(f"gem_p is {self.gem_p}; it must be a positive number")
        if self.metric is Metric.COSINE and not self.normalize:
            raise UsageError("metric 'cosine' needs normalised vectors; use metric 'ip' to keep their lengths")

    @property
    def out_dim(self) -> int | None:
        """Dimensions after PCA or whitening, None when neither is asked for."""
        return self.pca or self.whiten

    @property
    def needs_fit(self) -> bool:
        """True when the postprocess must see a sample of the data first."""
        return self.out_dim is not None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "layers": list(self.layers)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Raises UsageError for a field that is unknown or has a wrong type."""
        known = {field.name for field in fields(cls)}
        strange = sorted(set(data) - known)
        if strange:
            raise UsageError(f"recipe field {strange[0]!r} is not known; valid: {', '.join(sorted(known))}")
        if "modality" not in data:
            raise UsageError("the recipe has no field 'modality'")
        values = dict(data)
        values["modality"] = parse_enum(Modality, data["modality"], "modality")
        values["metric"] = parse_enum(Metric, data.get("metric", "cosine"), "metric")
        values["layers"] = tuple(data.get("layers", ()))
        try:
            return cls(**values)
        except TypeError as error:
            raise UsageError(f"the recipe has a field of a wrong type: {error}") from error

    def differences(self, other: Recipe) -> list[str]:
        """The fields that give other vectors, each as "name: this, that"."""
        mine, theirs = self.identity().to_dict(), other.identity().to_dict()
        return [f"{name}: {theirs[name]!r}, now {mine[name]!r}" for name in mine if mine[name] != theirs[name]]

    def identity(self) -> Recipe:
        """The recipe without what does not change a vector: where the weights were asked from."""
        return replace(self, weights="")


class RecipeFields(TypedDict, total=False):
    """The fields of a recipe as keyword arguments; None leaves a field to its default.

    layer: one name or several. The rest: see `Recipe`.
    """

    backbone: str | None
    weights: str | None
    layer: str | Sequence[str] | None
    pooling: str | None
    gem_p: float | None
    size: int | None
    fit: str | None
    max_tokens: int | None
    pca: int | None
    whiten: int | None
    metric: str | None
    normalize: bool | None
    precision: str | None
    modality: str | None


def read_recipe(path: Path) -> dict[str, Any]:
    """The fields of a recipe file (JSON object). Raises UsageError when it cannot be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"recipe {path} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise UsageError(f"recipe {path} must be a JSON object of recipe fields")
    return data


def parse_enum(enum: type[E], value: str, what: str) -> E:
    """`value` as a member of `enum`; raises UsageError with the valid ones."""
    try:
        return enum(value)
    except ValueError:
        raise UsageError(f"{what} {value!r} is not known; valid: {', '.join(enum)}") from None
