"""What a file or a network in memory offers as embedding tables, and the one among them that is asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from embedsearch.config import KERAS_SUFFIXES, TORCH_SUFFIXES
from embedsearch.errors import UnknownNameError, UsageError
from embedsearch.sources.arrays import read_matrix
from embedsearch.sources.files import is_url
from embedsearch.sources.npz import NpzArray, read_npz
from embedsearch.sources.word_vectors import read_word_vectors
from embedsearch.vectors import Matrix

IN_MEMORY = "<table>"
_NAMELESS = "vectors"
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_NETWORKS = (*TORCH_SUFFIXES, *KERAS_SUFFIXES)
_WORDS = (".txt", ".vec", ".txt.gz", ".vec.gz")
TABLE_SUFFIXES = (*_NETWORKS, ".npz", ".npy", *_WORDS)
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Offer:
    """Parameters by name (tensors, arrays or NpzArray), and where they lie.

    layers: names of embedding layers -> names of their parameters. words: the ids that the file itself gives to the
    rows of its only matrix. nameless: that matrix needs no name.
    """

    location: str
    values: Mapping[str, Any]
    layers: Mapping[str, str] = field(default_factory=dict)
    words: list[str] | None = None
    nameless: bool = False

    def candidates(self) -> list[tuple[str, tuple[int, ...]]]:
        """Names and shapes of the 2-D floating parameters; those of embedding layers come first."""
        layers = set(self.layers.values())
        fitting = [name for name, value in self.values.items() if len(value.shape) == 2 and _dtype(value) in _FLOATS]
        # a state dict tells no layer's class, but nearly all name them so
        fitting.sort(key=lambda name: name not in layers and "emb" not in name.lower())
        return [(name, tuple(self.values[name].shape)) for name in fitting]

    def choose(self, name: str | None) -> str:
        """The parameter that `name` means: its own name, or that of its layer. Raises UsageError, UnknownNameError."""
        if self.nameless and name is None:
            return _NAMELESS
        if name is None and "" in self.layers:  # the source is one embedding layer
            return self.layers[""]
        if name is None:
            raise UsageError(f"say which parameter of {self.location} is the table; {self._told()}")
        for found in (name, self.layers.get(name, ""), f"{name}.weight"):
            if found in self.values:
                return found
        near = get_close_matches(name, [*self.values, *filter(None, self.layers)], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownNameError(f"parameter {name!r} is not in {self.location}; {hint}{self._told()}")

    def matrix(self, name: str) -> Matrix:
        """The values of a parameter, float32 N x D, possibly shared with their owner."""
        value = self.values[name]
        if len(value.shape) != 2 or _dtype(value) not in _FLOATS:
            raise UsageError(
                f"parameter {name!r} of {self.location} is {_dtype(value)} of shape {_shape(value.shape)}; "
                f"a table must be N x D of {', '.join(_FLOATS)}; {self._told()}"
            )
        if getattr(value, "is_meta", False):
            raise UsageError(f"parameter {name!r} of {self.location} has no values yet: it lies on the meta device")
        return to_float32(value)

    def _told(self) -> str:
        found = self.candidates()
        told = ", ".join(f"{name} ({_shape(shape)})" for name, shape in found[:_SHOWN])
        if len(found) > _SHOWN:
            told += f" and {len(found) - _SHOWN} more"
        return f"it offers: {told}" if told else "it offers no floating parameter of two dimensions"


def offer(source: Any) -> Offer:
    """What `source` offers: a path, a torch module, a Keras model or layer, or a mapping of names to arrays.

    Raises UsageError for another kind, SourceError or WeightsError when a file cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        return _file_offer(os.fspath(source))
    if isinstance(source, Mapping):
        named = {str(name): value for name, value in source.items()}
        return Offer(IN_MEMORY, {n: v for n, v in named.items() if hasattr(v, "shape") and hasattr(v, "dtype")})
    if isinstance(source, np.ndarray | list | tuple):
        raise UsageError("a matrix needs no loading; use EmbeddingTable(rows, ids)")
    from embedsearch.backbones.files.parameters import model_parameters

    return Offer(IN_MEMORY, *model_parameters(source))


def to_float32(value: Any) -> Matrix:
    """A tensor, an array or an NpzArray as float32; it may share memory with `value`."""
    if isinstance(value, NpzArray):
        value = value.read()
    if hasattr(value, "detach"):  # a torch tensor, whose bfloat16 numpy does not know
        value = value.detach().cpu().float().numpy()
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinity, which a build names and skips
        return np.asarray(value, np.float32)


def _file_offer(source: str) -> Offer:
    location = source if is_url(source) else str(Path(source).expanduser().absolute())
    lower = location.lower()
    if lower.endswith(_WORDS):
        words, matrix = read_word_vectors(location)
        return Offer(location, {_NAMELESS: matrix}, words=words, nameless=True)
    if lower.endswith(".npy"):
        return Offer(location, {_NAMELESS: read_matrix(location)}, nameless=True)
    if lower.endswith(".npz"):
        return Offer(location, read_npz(location))
    if not lower.endswith(_NETWORKS):
        raise UsageError(f"{source} is not a kind of file that holds a table; valid: {', '.join(TABLE_SUFFIXES)}")
    if is_url(location):
        raise UsageError(f"{source} is read from a local path only; copy it here first")
    from embedsearch.backbones.files.parameters import file_parameters

    return Offer(location, *file_parameters(Path(location)))


def _dtype(value: Any) -> str:
    return getattr(value.dtype, "name", None) or str(value.dtype).removeprefix("torch.")


def _shape(shape: Any) -> str:
    return " x ".join(map(str, shape)) or "()"
