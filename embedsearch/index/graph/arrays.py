"""What the compiled loops are given, as plain arrays; rows of 2-d ones lie flat, `width`, `dim` or `degree` apart."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Links = NDArray[np.int32]


class Graph(NamedTuple):
    """The nodes. heads: uint8, `width` a node. residuals: int8 or int16, `dim` a node. scales, norms: float32, one a
    node (see codes.py for these). step: float32. euclidean: scores are squared distances, else inner products.
    links: int32, `degree` a node, -1 behind its last. long: int32, the last nodes, which are ranked for every query."""

    heads: NDArray[np.uint8]
    width: int
    residuals: NDArray[np.int8 | np.int16]
    dim: int
    scales: NDArray[np.float32]
    norms: NDArray[np.float32]
    step: np.float32
    euclidean: bool
    links: Links
    degree: int
    long: Links


class Space(NamedTuple):
    """What queries are prepared by: the codec's mean, axes (D x width, an axis a column), mean_along (zeros where
    `euclidean`: queries are centred before), one over its step and its radius; the regions' centres (a region a
    column) and lengths, and the door of each. Columns that pad a matrix are zeros."""

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]
    mean_along: NDArray[np.float32]
    inverse_step: np.float32
    radius: np.float32
    euclidean: bool
    centres: NDArray[np.float32]
    lengths: NDArray[np.float32]
    doors: NDArray[np.int32]


class Queries(NamedTuple):
    """A batch of n queries. heads: uint8 n x width, to walk by. along: float32 n x n_axes (or width, then with zeros)
    and across: float32 n x dim, the weights of a node's head and residual in its score; bases: float32 n, what is
    added. entries: int32 n x m, nodes where a walk begins."""

    heads: NDArray[np.uint8]
    along: NDArray[np.float32]
    across: NDArray[np.float32]
    bases: NDArray[np.float32]
    entries: NDArray[np.int32]


def aligned(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array that begins where a cache line does, so that a row takes as few lines as it can."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    found: NDArray[Any] = memory[start : start + size].view(dtype).reshape(shape)
    return found
