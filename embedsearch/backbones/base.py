"""A network of any kind, cut at the layers that are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch

from embedsearch.backbones.windows import TokenSpan
from embedsearch.errors import UsageError
from embedsearch.types import Features, LayerInfo, Modality


@dataclass(frozen=True, slots=True)
class BackboneOptions:
    """How a network is opened.

    weights: "auto", "packaged", a path, or what the family knows (a torchvision weights name, a hub name).
    size: pixels of the square input; max_tokens: of one window of a text, overlap: of two neighbouring
    ones; None takes the network's own. windows: read all of a longer text, else cut it at max_tokens.
    channels: where the layers of a network of the user's own have theirs: "first", "last" or "auto".
    modality, preprocess: for networks that cannot tell what they read; a mode of `pixels.MODES`, the
    name of code ("module:FILE:FUNCTION") or a function. device: "auto", "cpu", "cuda", ... precision:
    "float32" or "bfloat16"; for others see `Backbone.in_precision`. expect_sha256: the hash that a manifest
    recorded; with weights="auto", every place that "auto" looks at is tried for it.
    """

    weights: str = "auto"
    size: int | None = None
    max_tokens: int | None = None
    overlap: int | None = None
    windows: bool = True
    modality: Modality | None = None
    preprocess: str | Callable[[Any], Any] | None = None
    device: str = "auto"
    precision: str = "float32"
    channels: str = "auto"
    expect_sha256: str | None = None


class Backbone(ABC):
    """What the road knows of a network. A registered one is opened as Class(name, options).

    name: as it goes into the manifest. modality: what it reads. size: pixels of the square input;
    None where pictures are given whole to a preprocess of the user's own, and for what is no picture.
    max_tokens, overlap: of the windows of a text. preprocess: the name under which it can be found
    again. max_length: the `length` of a usual item. code_sha256: of code of the user's own.
    weights_sha256: of the file(s) the weights came from, or of the weights themselves.
    weights_origin: where they were, for people. default_layer: taken when none is named. map_pooling: of maps,
    when a build names none. concurrent: passes may run
    in several threads at once, and do not wait for each other.
    thread_safe: may be called from several threads, which may have to wait for each other.
    device_type: "cpu", "cuda", ... of the device that passes run on.
    precision: what it computes in.
    """

    name: str
    modality: Modality
    size: int | None = None
    max_tokens: int | None = None
    overlap: int | None = None
    preprocess: str | None = None
    max_length: int = 1
    code_sha256: str | None = None
    weights_sha256: str
    weights_origin: str
    default_layer: str
    map_pooling: str = "mean"
    concurrent: bool = False
    thread_safe: bool = False
    device_type: str = "cpu"
    precision: str = "float32"

    @classmethod
    @abstractmethod
    def describe(cls, name: str, *, weights: str, size: int | None, example: Any = None) -> tuple[list[LayerInfo], str]:
        """The layers of the network `name` in the order in which they answer, and its default layer.

        example: one item, for networks of the user's own that read something else than pictures.
        """

    @abstractmethod
    def layers(self) -> list[LayerInfo]:
        """Every layer that can be named, in the order in which they answer."""

    @abstractmethod
    def resolve_layer(self, name: str) -> str:
        """The one name of the layer that `name` or its alias stands for.

        Raises UnknownNameError with the nearest names when the network has no such layer.
        """

    @abstractmethod
    def prepare(self, values: Sequence[Any]) -> list[Any]:
        """Decoded items in the form `extract` takes, work that needs no network (tokenising, scaling);
        an ItemError in the place of one for which that is not possible."""

    def length(self, prepared: Any) -> int:
        """How much work an item is, relative to others; items of a length are batched together."""
        return 1

    def bucket(self, prepared: Any) -> Hashable:
        """Items are batched only with others of their bucket."""
        return None

    def item_bytes(self) -> int | None:
        """Of the largest activation of one item, where that is known beforehand."""
        return None

    def is_long(self, prepared: Any) -> bool:
        """True when the item is longer than the network reads at once."""
        return False

    def split(self, prepared: Any) -> list[tuple[Any, tuple[int, int]]]:
        """The parts of an item that the network reads one by one, each as an item of its own, and where
        it begins and ends, in characters."""
        return [(prepared, (0, 0))]

    def token_spans(self, text: str, prepared: Any, part: int | None = None) -> list[TokenSpan] | None:
        """Where the places of the features of a text come from, in their order; None where that is not known.

        prepared: as `prepare` gives it for `text`. part: the number of the part of `split` that was extracted alone.
        """
        return None

    def check_size(self, size: int) -> None:
        """Raises UsageError when the network, opened at another size, cannot read pictures of `size` px.

        Here nothing is known of that beforehand: its forward pass will tell."""
        return

    def has_bfloat16(self) -> bool:
        """Whether the device that the network is on multiplies bfloat16 in hardware."""
        return False

    def has_int8(self, layers: Sequence[str]) -> bool:
        """Whether this network can be computed up to `layers` in 8-bit integers, in hardware."""
        return False

    def in_precision(self, precision: str) -> Self:
        """The same network, opened in float32 or for int8 and not run yet, in another precision; this one stays as it
        is."""
        raise NotImplementedError

    @abstractmethod
    def extract(self, batch: Sequence[Any], layers: Sequence[str]) -> dict[str, Features]:
        """Features of `layers` (as `resolve_layer` names them) for prepared items, from one pass that
        goes no further than needed.

        No gradients, evaluation mode, deterministic. Raises WeightsError when the weights do not reach
        up to a layer.
        """

    def blank(self, layers: Sequence[str]) -> dict[str, Features] | None:
        """Features of zeros as one item of usual size would give them, or None where only a pass can tell.

        Takes at most one pass for all of `layers`.
        """
        return None


def devices_of(name: str) -> list[str]:
    """The devices that `name` stands for: those it lists, and of "auto" and "cuda" every GPU there is."""
    n_gpus = torch.cuda.device_count() if name in ("auto", "cuda") else 0
    if n_gpus > 1:
        return [f"cuda:{number}" for number in range(n_gpus)]
    return [part.strip() for part in name.split(",")]


def open_device(name: str) -> torch.device:
    """The device of that name, the first where it lists several; "auto" is CUDA where there is one. Raises UsageError
    when it cannot be used."""
    name = name.partition(",")[0].strip()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].removesuffix(".")
        raise UsageError(
            f"device {name!r} cannot be used here: {reason}; valid: auto, cpu, and where there are GPUs cuda, "
            "cuda:NUMBER or several of these with commas"
        ) from error
    return device
