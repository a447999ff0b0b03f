"""The recipe: everything that decides what a vector is. Same recipe and item, same vector."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from math import isfinite
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self, TypedDict, TypeVar

from embedsearch.errors import UsageError
from embedsearch.types import Metric, Modality

E = TypeVar("E", Metric, Modality)

AUTO = "auto"  # the pooling that is left to the network
FITS = ("crop", "pad", "squash")
PRECISIONS = ("auto", "float32", "bfloat16", "int8")
CHANNELS = ("auto", "first", "last")
COMBINES = ("concat", "mean")
LONG_TEXTS = ("windows", "chunk", "cut")
# what names of the user's own networks and functions begin with, here and in the manifest
MODULE_SCHEME = "module:"  # code: FILE_OR_PACKAGE:NAME
KERAS_SCHEME = "keras:"  # a model's file
MEMORY_SCHEME = "memory:"  # given in Python, so that it has to be given again
FROM_FACTORY = "factory"  # the name of a preprocess that a network's own code gives with it
# what files with a network's weights end in
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
# fields that mean something for one modality only, with what leaves them unused
_ONLY_FOR: dict[Modality, tuple[str, ...]] = {
    Modality.IMAGE: ("size", "scales", "flip", "fit"),
    Modality.TEXT: ("max_tokens", "overlap", "long_texts"),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an item becomes a vector.

    backbone: a registered name, module:FILE:FACTORY, keras:PATH, or memory:NAME of what was given in
    Python. weights: as the user named them; weights_sha256: of the file(s) they came from or of their
    values, which is what counts. code_sha256: of the files of code that backbone and preprocess name.
    preprocess: how items become the input of a network that does not tell
    (a mode, or a name of code). channels: where the layers of such a network have theirs, where that
    cannot be seen. layers: dotted module names, after aliases are resolved.
    combine: of several layers, "concat" takes each one's pooled and L2-normalised vector times its
    weight in layer_weights (default 1), one after the other; "mean" the weighted mean of their
    activations, place by place, which is then pooled. size: pixels of the square input; fit: how a
    picture is brought to it. scales, flip: views of a picture (its size times each scale; mirrored as
    well) whose L2-normalised vectors are averaged. max_tokens: of one window of a text; overlap: tokens
    that neighbouring windows share. long_texts: "windows" pools over all windows of a longer text,
    "chunk" makes each an item of its own, "cut" takes the first. pca / whiten: dimensions kept, at
    most one of the two. whiten_power: how far whitening goes, from 0 (PCA) to 1 (every direction gets the same
    variance). normalize: rows have unit length.
    """

    modality: Modality
    metric: Metric = Metric.COSINE
    backbone: str | None = None
    weights: str = "auto"
    weights_sha256: str | None = None
    code_sha256: str | None = None
    preprocess: str | None = None
    channels: str = "auto"
    layers: tuple[str, ...] = ()
    layer_weights: tuple[float, ...] = ()
    combine: str = "concat"
    pooling: str = "mean"
    gem_p: float = 3.0
    size: int | None = None
    fit: str = "crop"
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    max_tokens: int | None = None
    overlap: int | None = None
    long_texts: str = "windows"
    pca: int | None = None
    whiten: int | None = None
    whiten_power: float = 1.0
    normalize: bool = True
    precision: str = "float32"

    def __post_init__(self) -> None:
        for each in fields(self):  # numpy's numbers and arrays become Python's, which JSON knows
            object.__setattr__(self, each.name, _plain(getattr(self, each.name)))
        for name, valid in (
            ("fit", FITS),
            ("precision", PRECISIONS),
            ("channels", CHANNELS),
            ("combine", COMBINES),
            ("long_texts", LONG_TEXTS),
        ):
            if getattr(self, name) not in valid:
                raise UsageError(f"{name} {getattr(self, name)!r} is not known; valid: {', '.join(valid)}")
        if self.pca is not None and self.whiten is not None:
            raise UsageError("pca and whiten are both set; whitening already reduces by PCA, so give one")
        for name in ("pca", "whiten", "size", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; it must be at least 1")
        if not 0 < self.whiten_power <= 1:
            raise UsageError(
                f"whiten_power is {self.whiten_power}; it must be above 0 and at most 1, whitening in full"
            )
        if self.whiten_power != 1 and self.whiten is None:
            raise UsageError("whiten_power is given without whiten; say with whiten how many dimensions to keep")
        if self.overlap is not None and self.overlap < 0:
            raise UsageError(f"overlap is {self.overlap}; it must be at least 0")
        if not self.scales:
            raise UsageError("scales are empty; give at least one, 1 being the size itself")
        numbers = [("gem_p", self.gem_p), *(("a scale", s) for s in self.scales)]
        for name, number in [*numbers, *(("a layer weight", w) for w in self.layer_weights)]:
            if not 0 < number < float("inf"):
                raise UsageError(f"{name} is {number}; it must be a positive number")
        if self.layer_weights and len(self.layer_weights) != len(self.layers):
            raise UsageError(f"{len(self.layer_weights)} layer weights are given for {len(self.layers)} layers")
        if len(set(self.layers)) < len(self.layers):
            raise UsageError(f"a layer is named twice: {', '.join(self.layers)}; layer weights count one more")
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

    @property
    def is_chunked(self) -> bool:
        """True when each window of a text is an item of its own."""
        return self.modality is Modality.TEXT and self.long_texts == "chunk"

    def require_fitting(self, modality: Modality, network: str) -> None:
        """Raises UsageError when a field is set that means nothing for what the network reads."""
        usual = {field.name: field.default for field in fields(self)}
        for only, names in _ONLY_FOR.items():
            for name in names:
                if only is not modality and getattr(self, name) != usual[name]:
                    raise UsageError(f"{name} is for {only.value}s; {network} reads {modality.value}s")

    def to_dict(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Raises UsageError for a field that is unknown or has a wrong type."""
        known = {field.name for field in fields(cls)}
        strange = sorted(set(data) - known)
        if strange:
            raise UsageError(f"recipe field {strange[0]!r} is not known; valid: {', '.join(sorted(known))}")
        if "modality" not in data:
            raise UsageError("the recipe has no field 'modality'")
        data = {name: _plain(value) for name, value in data.items()}
        values = dict(data)
        values["modality"] = parse_enum(Modality, data["modality"], "modality")
        values["metric"] = parse_enum(Metric, data.get("metric", "cosine"), "metric")
        for name, value in data.items():
            _check_type(name, value)
        try:
            return cls(**values)
        except TypeError as error:
            raise UsageError(f"the recipe has a field of a wrong type: {error}") from error

    @classmethod
    def from_stored(cls, data: dict[str, Any]) -> Self:
        """A recipe that was written beside an index: by an earlier version, it may lack later fields."""
        if data.get("modality") == Modality.TEXT and "long_texts" not in data:
            data = {**data, "long_texts": "cut"}  # what was done before there was a choice
        return cls.from_dict(data)

    def differences(self, other: Recipe) -> list[str]:
        """The fields that give other vectors, each as "name: this, that"."""
        mine, theirs = self.identity().to_dict(), other.identity().to_dict()
        return [
            f"{name}: {_told(theirs[name])}, now {_told(mine[name])}" for name in mine if mine[name] != theirs[name]
        ]

    def identity(self) -> Recipe:
        """The recipe without what does not change a vector: where the weights were asked from."""
        return replace(self, weights="")


def _told(value: Any) -> str:
    return str(value) if isinstance(value, StrEnum) else repr(value)


def is_own(name: str) -> bool:
    """True for the name of a network or function of the user's own; others are found by their name alone."""
    return name.startswith((MODULE_SCHEME, KERAS_SCHEME, MEMORY_SCHEME))


_LISTS: dict[str, tuple[str, type]] = {
    "layers": ("names", str),
    "layer_weights": ("numbers", Real),
    "scales": ("numbers", Real),
}
_KINDS: dict[str, tuple[type, tuple[str, ...]]] = {
    "a whole number": (Integral, ("size", "max_tokens", "overlap", "pca", "whiten")),
    "a number": (Real, ("gem_p", "whiten_power")),
    "true or false": (bool, ("flip", "normalize")),
}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_plain(entry) for entry in value)
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return value


def _check_type(name: str, value: Any) -> None:
    """Raises UsageError when a field's value is not of its kind."""
    kind: type
    if name in _LISTS:
        what, kind = _LISTS[name]
        fits = isinstance(value, list | tuple) and all(
            isinstance(entry, kind) and not isinstance(entry, bool) for entry in value
        )
        told = f"a list of {what}"
    else:
        told, kind = next(((told, kind) for told, (kind, names) in _KINDS.items() if name in names), ("a text", str))
        fits = value is None or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool)))
    if not fits:
        raise UsageError(f"recipe field {name!r} is {value!r}; it must be {told}")


class RecipeFields(TypedDict, total=False):
    """The fields of a recipe as keyword arguments; None leaves a field to its default.

    layer: one name or several. The rest: see `Recipe`.
    """

    backbone: Any
    weights: str | Path | None
    preprocess: str | Callable[[Any], Any] | None
    channels: str | None
    layer: str | Sequence[str] | None
    layer_weights: Sequence[float] | None
    combine: str | None
    pooling: str | None
    gem_p: float | None
    size: int | None
    fit: str | None
    scales: Sequence[float] | None
    flip: bool | None
    max_tokens: int | None
    overlap: int | None
    long_texts: str | None
    pca: int | None
    whiten: int | None
    whiten_power: float | None
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


_UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def parse_bytes(size: Any) -> int:
    """A number of bytes, as 2GiB, 512 MiB, 3.5GB or 1000000 say it. Raises UsageError for anything else."""
    if isinstance(size, bool) or not isinstance(size, str | Real) or (isinstance(size, Real) and not isfinite(size)):
        raise UsageError(f"{size!r} is no size; say it as 2GiB, 512MiB, 3.5GB, or as a number of bytes")
    if not isinstance(size, str):
        return int(size) if isinstance(size, Integral) else int(float(size))
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", size)
    if match is None or match[2].upper() not in _UNITS:
        raise UsageError(f"{size!r} is no size; say it as 2GiB, 512MiB or 3.5GB")
    return int(float(match[1]) * _UNITS[match[2].upper()])
