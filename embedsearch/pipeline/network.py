"""Read inputs through a network to pooled vectors: batches, views, chunks, several layers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from embedsearch.config import Recipe
from embedsearch.errors import ItemError, UsageError
from embedsearch.pipeline.batches import batches
from embedsearch.pipeline.content import Loaded
from embedsearch.pipeline.timing import NETWORK, READING, Clock
from embedsearch.types import Modality
from embedsearch.vectors import Matrix, l2_normalize

if TYPE_CHECKING:
    from embedsearch.backbones import Backbone
    from embedsearch.backbones.windows import TokenSpan
    from embedsearch.types import Features


# items that a pass reads at once, and how many of the usual length they may be: texts are mostly shorter
_BATCHES = {Modality.IMAGE: (64, 64), Modality.TEXT: (512, 16), Modality.TENSOR: (32, 32)}
# of pictures, as many as have their largest activations in so much memory: what is larger leaves the caches, and is
# given back to the system and asked for again in each pass; a GPU wants more
_ACTIVATION_BYTES = {"cpu": 2**24, "cuda": 2**29}
NOT_FINITE = "the network gives NaN or infinity for it"


@dataclass(slots=True)
class Encoded:
    """What became of a list of inputs.

    vectors: float32 n x D, one row for each entry of `kept`: the position of its input (ascending).
    hashes: of their content. long: whether a text was longer than the network reads at once. spans: of
    chunks, the characters they cover; empty otherwise. failures: position and error of the others.
    """

    vectors: Matrix
    kept: list[int] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    long: list[bool] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    failures: list[tuple[int, ItemError]] = field(default_factory=list)


class PooledNetwork:
    """A backbone with the layers and the pooling of a resolved recipe.

    dim: of a pooled vector; None where only a first item can tell.
    """

    def __init__(
        self, backbone: Backbone, recipe: Recipe, batch_size: int | None, n_passes: int = 1, clock: Clock | None = None
    ) -> None:
        """batch_size: items of the usual length that a pass reads at once. n_passes: how many may run at once on a CPU,
        each on one thread; a lone pass over pictures runs on as many threads. clock: is told what takes how long."""
        self._clock = clock or Clock({})
        self._n_passes = n_passes
        self._pools: dict[bool, ThreadPoolExecutor] = {}
        self._starting = threading.Lock()
        self._asked_batch_size = batch_size
        self.reopen(backbone, recipe)
        self.dim = self._width()

    def reopen(self, backbone: Backbone, recipe: Recipe) -> None:
        """Goes over to the same network in another precision."""
        self._backbone, self._recipe = backbone, recipe
        usual, n_usual_lengths = _BATCHES[recipe.modality]
        if item_bytes := backbone.item_bytes():
            fitting = _ACTIVATION_BYTES.get(backbone.device_type, _ACTIVATION_BYTES["cpu"]) // item_bytes
            usual = n_usual_lengths = max(min(usual, fitting), 1)
        self._batch_size = self._asked_batch_size or usual
        self._most_length = (self._asked_batch_size or n_usual_lengths) * backbone.max_length

    def encode(
        self, loaded: Sequence[Loaded | ItemError], report: Callable[[int], None] | None, *, chunks: bool
    ) -> Encoded:
        """A row for each input that could be read, or for each chunk of it."""
        failures = {i: result for i, result in enumerate(loaded) if isinstance(result, ItemError)}
        views = [view for result in loaded if not isinstance(result, ItemError) for view in result.views]
        with self._clock.stage(READING):
            prepared = iter(self._backbone.prepare(views) if views else [])
        encoded = Encoded(np.empty((0, self.dim or 0), np.float32))
        rows: list[list[Any]] = []  # of each row to be made, its views
        for i, result in enumerate(loaded):
            if isinstance(result, ItemError):
                continue
            own = [next(prepared) for _ in result.views]
            broken = [view for view in own if isinstance(view, ItemError)]
            if broken:
                failures[i] = broken[0]
                continue
            is_long = self._backbone.is_long(own[0])
            parts = self._backbone.split(own[0]) if chunks else [(own[0], (0, 0))]
            rows += [[part] if len(parts) > 1 else own for part, _ in parts]
            encoded.kept += [i] * len(parts)
            encoded.hashes += [result.digest] * len(parts)
            encoded.long += [is_long] * len(parts)
            encoded.spans += [span for _, span in parts] if chunks else []
        if rows:
            encoded.vectors, broken_rows = self._views_averaged(rows, report)
            self._leave_out(encoded, broken_rows, failures)
        encoded.failures = sorted(failures.items(), key=lambda failure: failure[0])
        return encoded

    @staticmethod
    def _leave_out(encoded: Encoded, broken: Mapping[int, ItemError], failures: dict[int, ItemError]) -> None:
        """Takes the rows of inputs out for which the network fails, with all their chunks."""
        if not broken:
            return
        failures.update((encoded.kept[row], error) for row, error in sorted(broken.items(), reverse=True))
        good = [row for row, i in enumerate(encoded.kept) if i not in failures]
        encoded.vectors = encoded.vectors[good]
        for name in ("kept", "hashes", "long", "spans"):
            values = getattr(encoded, name)
            setattr(encoded, name, [values[row] for row in good] if values else [])

    def _views_averaged(
        self, rows: list[list[Any]], report: Callable[[int], None] | None
    ) -> tuple[Matrix, dict[int, ItemError]]:
        n_views = len(rows[0])
        if n_views == 1:
            return self._through([row[0] for row in rows], report)
        total: Matrix | None = None
        broken: dict[int, ItemError] = {}
        for view in range(n_views):
            found, failed = self._through([row[view] for row in rows], report if view == n_views - 1 else None)
            x = l2_normalize(found)
            broken.update(failed)
            if total is not None and total.shape != x.shape:
                raise UsageError(
                    f"pooling {self._recipe.pooling!r} gives {x.shape[1]} dimensions at one scale and "
                    f"{total.shape[1]} at another; take a pooling that does not depend on the size"
                )
            total = x if total is None else total + x
        assert total is not None
        return np.asarray(total / np.float32(n_views), np.float32), broken

    def _through(
        self, prepared: list[Any], report: Callable[[int], None] | None
    ) -> tuple[Matrix, dict[int, ItemError]]:
        """A row for each item, and the error of those for which the network fails (their rows mean nothing)."""
        vectors: Matrix | None = None
        broken: dict[int, ItemError] = {}
        size = max(min(self._batch_size, -(-len(prepared) // self._n_passes)), 1)
        waiting = deque(batches(prepared, self._backbone, size, self._most_length))
        for places, x in self._passes(prepared, waiting):
            if isinstance(x, ItemError):
                if len(places) > 1:  # it may fail for one of them only
                    waiting += [[place] for place in places]
                else:
                    broken[places[0]] = x
                continue
            if vectors is None:
                vectors = np.zeros((len(prepared), x.shape[1]), np.float32)
            if x.shape[1] != vectors.shape[1]:
                raise UsageError(
                    f"pooling {self._recipe.pooling!r} gives {vectors.shape[1]} dimensions for one input and "
                    f"{x.shape[1]} for another, of another shape; take a pooling that does not depend on the shape"
                )
            vectors[places] = x
            if report is not None:
                report(len(places))
        if vectors is None:
            return np.zeros((len(prepared), self.dim or 0), np.float32), broken
        self.dim = vectors.shape[1]
        return vectors, broken

    def _passes(self, prepared: list[Any], waiting: deque[list[int]]) -> Iterator[tuple[list[int], Matrix | ItemError]]:
        """Places and vectors of each batch that waits, or the error that its pass ended with."""

        def forward(places: list[int]) -> Matrix | ItemError:
            try:
                return self._forward([prepared[place] for place in places])
            except ItemError as error:
                return error

        if not self._backbone.concurrent:
            while waiting:
                places = waiting.popleft()
                yield places, forward(places)
            return
        running: deque[tuple[list[int], Future[Matrix | ItemError]]] = deque()
        pool = self._threads(together=len(waiting) == 1 and self._is_worth_sharing(prepared))
        try:
            while waiting or running:
                while waiting and len(running) <= self._n_passes:
                    running.append((waiting[0], pool.submit(forward, waiting.popleft())))
                places, future = running.popleft()
                yield places, future.result()
        finally:
            for _, future in running:
                future.cancel()

    def _is_worth_sharing(self, prepared: Sequence[Any]) -> bool:
        """Whether several threads are faster on one pass over these than one: on usual texts they wait for each other
        longer than they compute."""
        if self._recipe.modality is not Modality.TEXT:
            return True
        return sum(map(self._backbone.length, prepared)) > self._most_length

    def _threads(self, *, together: bool) -> ThreadPoolExecutor:
        """What passes run on: one alone on all threads that there are, or each on one."""
        from embedsearch.backbones.cpu.threads import passes_apart

        with self._starting:
            if together not in self._pools:
                n = self._n_passes
                self._pools[together] = passes_apart(1, n) if together else passes_apart(n)
            return self._pools[together]

    def _forward(self, batch: list[Any]) -> Matrix:
        with self._clock.stage(NETWORK):
            features = self._backbone.extract(batch, self._recipe.layers)
            return self._pool([features[layer] for layer in self._recipe.layers])

    def features(self, loaded: Loaded, part: int | None = None) -> tuple[list[list[Features]], list[TokenSpan] | None]:
        """One input's activations before pooling, for each view and each layer that is pooled (1 x T x C), and of a
        text where its tokens come from.

        part: of a long text, the number of the chunk that is read alone. Raises ItemError.
        """
        from embedsearch.pooling import average

        recipe, found, spans = self._recipe, [], None
        for view, prepared in zip(loaded.views, self._backbone.prepare(loaded.views), strict=True):
            if isinstance(prepared, ItemError):
                raise prepared
            parts = [prepared] if part is None else [own for own, _ in self._backbone.split(prepared)]
            number = 0 if part is None else part
            if number >= len(parts):
                raise ItemError(f"the text has {len(parts)} chunks now, and the index one of number {number + 1}")
            features = self._backbone.extract([parts[number]], recipe.layers)
            layers = [features[layer] for layer in recipe.layers]
            if recipe.combine == "mean":
                layers = [average(layers, recipe.layer_weights or (1.0,) * len(layers))]
            found.append(layers)
            if isinstance(view, str):
                spans = self._backbone.token_spans(view, prepared, part)
        return found, spans

    def _pool(self, layers: Sequence[Features]) -> Matrix:
        """float32 B x D of a batch's features, one entry a layer of the recipe."""
        from embedsearch.pooling import average, pool

        recipe = self._recipe
        weights = recipe.layer_weights or (1.0,) * len(layers)
        if recipe.combine == "mean":
            layers, weights = [average(layers, weights)], (1.0,)
        pooled: list[Matrix] = [pool(features, recipe.pooling, gem_p=recipe.gem_p).cpu().numpy() for features in layers]
        if len(pooled) == 1:
            return pooled[0]
        return np.concatenate([l2_normalize(x) * np.float32(w) for x, w in zip(pooled, weights, strict=True)], axis=1)

    def _width(self) -> int | None:
        """Dimensions of a pooled vector, by pooling zeros; so a pooling that does not suit a layer is told now."""
        blanks = self._backbone.blank(self._recipe.layers)
        return None if blanks is None else self._pool([blanks[layer] for layer in self._recipe.layers]).shape[1]
