"""All that a finished graph holds, and its file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import DamagedIndexError
from embedsearch.index.graph.arrays import Graph, Links, Space, aligned
from embedsearch.index.graph.codes import LANES, Codec
from embedsearch.index.graph.regions import Regions
from embedsearch.types import Metric
from embedsearch.vectors import Matrix

# Of inner products the longest rows are the answers to most queries, and lie so far from all others that their heads
# end at the range of a byte, and walks lose them: so many are ranked for every query.
N_LONG = 128
_FORMAT = 1
_ALIGNED = ("heads", "residuals", "links")


@dataclass(frozen=True, slots=True)
class Nodes:
    """n nodes, in an order in which like ones lie side by side.

    rows: int32 n, the row each node stands for. heads: uint8 n x width. residuals: int8 or int16 n x D. scales, norms:
    float32 n (see codes.py). links: int32 n x degree. doors: int32, the node at which each region is entered. n_long:
    how many of the last nodes are ranked for every query (N_LONG of the longest, for inner products). held: int32,
    ascending, nodes that are no answers yet.
    graph, space: what the compiled loops take of these.
    """

    codec: Codec
    regions: Regions
    rows: NDArray[np.int32]
    heads: NDArray[np.uint8]
    residuals: NDArray[np.int8 | np.int16]
    scales: NDArray[np.float32]
    norms: NDArray[np.float32]
    links: Links
    doors: NDArray[np.int32]
    n_long: int = 0
    held: Links = field(default_factory=lambda: np.empty(0, np.int32))
    graph: Graph = field(init=False)
    space: Space = field(init=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __post_init__(self) -> None:
        codec = self.codec
        graph = Graph(
            self.heads.reshape(-1), codec.width, self.residuals.reshape(-1), codec.dim, self.scales, self.norms,
            np.float32(codec.step), codec.metric is Metric.L2, self.links.reshape(-1), self.links.shape[1],
            np.arange(len(self) - self.n_long, len(self), dtype=np.int32),
        )  # fmt: skip
        object.__setattr__(self, "graph", graph)
        euclidean = codec.metric is Metric.L2
        along = np.zeros_like(codec.mean_along) if euclidean else codec.mean_along
        space = Space(
            codec.mean, _columns(codec.axes), _columns(along[:, None])[0], np.float32(1 / codec.step),
            np.float32(codec.radius), euclidean, _columns(self.regions.centres), self.regions.lengths, self.doors,
        )  # fmt: skip
        object.__setattr__(self, "space", space)

    def admitted(self) -> Self:
        """The same, once what was held out is linked: the long ones of those are the first of all long ones."""
        n_long = min(N_LONG, len(self)) if self.codec.metric is Metric.IP else 0
        return replace(self, n_long=n_long, held=np.empty(0, np.int32))

    @property
    def answerable(self) -> Links:
        """The nodes that may be answers now."""
        everything = np.arange(len(self), dtype=np.int32)
        return np.setdiff1d(everything, self.held, assume_unique=True) if len(self.held) else everything

    def save(self, path: Path) -> None:
        from safetensors.numpy import save_file

        arrays = {name: getattr(self, name) for name in ("rows", "scales", "norms", "doors", *_ALIGNED)}
        arrays |= {"mean": self.codec.mean, "axes": self.codec.axes, "centres": self.regions.centres}
        told = {"format": _FORMAT, "metric": self.codec.metric, "step": self.codec.step, "radius": self.codec.radius}
        told["n_long"] = self.n_long
        save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, {"graph": json.dumps(told)}
        )

    @classmethod
    def load(cls, path: Path, metric: Metric) -> Self:
        """Raises DamagedIndexError when the file cannot be read, or was made for another metric."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as stored:
                told = json.loads(stored.metadata()["graph"])
                if told["format"] != _FORMAT or told["metric"] != metric:
                    raise DamagedIndexError(
                        f"{path} is a graph of format {told['format']} for {told['metric']}, not {_FORMAT} for {metric}"
                    )
                arrays = {name: _placed(name, stored.get_tensor(name)) for name in stored.keys()}  # noqa: SIM118
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise DamagedIndexError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
        codec = Codec(metric, arrays.pop("mean"), arrays.pop("axes"), float(told["step"]), float(told["radius"]))
        n_long = int(told.get("n_long", 0))
        if not 0 <= n_long <= len(arrays["rows"]):
            raise DamagedIndexError(f"{path} is damaged: {n_long} of its {len(arrays['rows'])} nodes are long")
        return cls(codec, Regions(arrays.pop("centres")), n_long=n_long, **arrays)


def _columns(rows: Matrix) -> Matrix:
    """`rows` as columns, beside each other, with columns of zeros up to a multiple of LANES."""
    columns = np.zeros((rows.shape[1], -(-len(rows) // LANES) * LANES), np.float32)
    columns[:, : len(rows)] = rows.T
    return columns


def _placed(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if name not in _ALIGNED:
        return array
    found = aligned(array.shape, array.dtype)
    found[:] = array
    return found
