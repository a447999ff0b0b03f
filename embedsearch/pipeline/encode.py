"""The encoder: content in, vectors out; the same object for a build, a query, and a user's own code."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from embedsearch.config import Recipe
from embedsearch.errors import ItemError, UsageError
from embedsearch.pipeline.content import load_image, load_text
from embedsearch.postprocess import Postprocess, Projection
from embedsearch.types import Metric, Modality
from embedsearch.vectors import Matrix, l2_normalize

if TYPE_CHECKING:
    from embedsearch.backbones import Backbone

# items that are decoded ahead of the network; bounds the memory of `encode` on long lists
_CHUNK = 512
_BATCH = {Modality.IMAGE: 16, Modality.TEXT: 32}


@dataclass(slots=True)
class Encoded:
    """What became of a list of inputs.

    vectors: float32 n x D, one row for each position in `kept` (ascending). hashes: of their content.
    truncated: whether a text was longer than the network reads. failures: position and reason of the others.
    """

    vectors: Matrix
    kept: list[int] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    truncated: list[bool] = field(default_factory=list)
    failures: list[tuple[int, str]] = field(default_factory=list)


class Encoder:
    """A network cut at a layer, with pooling and normalising behind it.

    backbone: a registered name. layer: a module name, or several, whose pooled and L2-normalised
    vectors are concatenated; None takes the backbone's default. pooling: mean, max, gem (exponent
    gem_p) or cls. weights: "auto", "packaged", a path, or a hub name. size, fit: of pictures; shorter
    side to `size` and centre crop ("crop"), or "pad", "squash". normalize: vectors have unit length.
    device: "auto", "cpu", "cuda". precision: "float32", "bfloat16", "auto" (float32). batch_size and
    workers (decoding threads) change the speed and never the vectors.

    Raises UsageError, UnknownNameError (backbone, layer, pooling), WeightsError.
    """

    def __init__(
        self,
        backbone: str = "vgg16",
        *,
        layer: str | Sequence[str] | None = None,
        pooling: str = "mean",
        weights: str = "auto",
        size: int | None = None,
        fit: str = "crop",
        gem_p: float = 3.0,
        max_tokens: int | None = None,
        normalize: bool = True,
        precision: str = "auto",
        device: str = "auto",
        batch_size: int | None = None,
        workers: int | None = None,
    ) -> None:
        recipe = Recipe(
            modality=Modality.IMAGE,  # the backbone knows better, below
            metric=Metric.COSINE if normalize else Metric.IP,
            backbone=backbone,
            weights=weights,
            layers=(layer,) if isinstance(layer, str) else tuple(layer or ()),
            pooling=pooling,
            gem_p=gem_p,
            size=size,
            fit=fit,
            max_tokens=max_tokens,
            normalize=normalize,
            precision="float32" if precision == "auto" else precision,
        )
        self._setup(recipe, None, device, batch_size, workers)

    @classmethod
    def from_recipe(
        cls,
        recipe: Recipe,
        *,
        projection: Projection | None = None,
        device: str = "auto",
        batch_size: int | None = None,
        workers: int | None = None,
    ) -> Self:
        """The encoder of a recipe; where the recipe names a sha256, its weights must have it."""
        encoder = cls.__new__(cls)
        encoder._setup(recipe, projection, device, batch_size, workers)
        return encoder

    def _setup(
        self,
        recipe: Recipe,
        projection: Projection | None,
        device: str,
        batch_size: int | None,
        workers: int | None,
    ) -> None:
        # torch is imported here and not before: a search by id or vector never comes this way
        from embedsearch.backbones import open_backbone
        from embedsearch.registry import POOLING

        POOLING.get(recipe.pooling)
        for name, value in (("batch_size", batch_size), ("workers", workers)):
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; it must be at least 1")
        self._backbone: Backbone = open_backbone(
            str(recipe.backbone),
            weights=recipe.weights,
            size=recipe.size,
            max_tokens=recipe.max_tokens,
            device=device,
            precision=recipe.precision,
            expect_sha256=recipe.weights_sha256,
        )
        self.recipe = resolve(recipe, self._backbone)
        self.postprocess = Postprocess(self.recipe.normalize, projection)
        self._batch_size = batch_size or _BATCH[self.recipe.modality]
        self._workers = workers or os.cpu_count() or 1

    @property
    def weights_origin(self) -> str:
        """Where the weights were found."""
        return self._backbone.weights_origin

    def encode(self, items: Sequence[Any], *, normalize: bool | None = None) -> Matrix:
        """Vectors float32 N x D of pictures (paths, URLs, bytes, PIL images, arrays) or texts, in order.

        normalize: overrides the encoder's own for this call. Raises ItemError naming the first input
        that cannot be read; for UsageError see the class.
        """
        if isinstance(items, str | bytes):
            raise UsageError("encode takes a list of inputs; for one input there is encode_one")
        postprocess = self.postprocess
        if normalize is not None:
            postprocess = Postprocess(normalize, postprocess.projection)
        parts = []
        for start in range(0, len(items), _CHUNK):
            encoded = self.pooled(items[start : start + _CHUNK])
            if encoded.failures:
                position, reason = encoded.failures[0]
                shown = str(items[start + position])[:80] if isinstance(items[start + position], str) else ""
                raise ItemError(f"input {start + position}{f' ({shown})' if shown else ''}: {reason}")
            parts.append(postprocess(encoded.vectors))
        return np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32)

    def encode_one(self, item: Any, *, normalize: bool | None = None) -> NDArray[np.float32]:
        """The vector float32 D of one input; see `encode`."""
        vector: NDArray[np.float32] = self.encode([item], normalize=normalize)[0]
        return vector

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        projection = self.postprocess.projection
        return self.pooled_dim if projection is None else int(projection.matrix.shape[1])

    @property
    def pooled_dim(self) -> int:
        """Dimensions of a pooled vector, before any projection."""
        return sum(self._backbone.n_channels(layer) for layer in self.recipe.layers)

    def pooled(self, contents: Sequence[Any], report: Callable[[int], None] | None = None) -> Encoded:
        """Pooled vectors before any postprocess, and which inputs could not be read.

        report: is told after each batch how many inputs it held.
        """
        loaded = self._load(contents)
        kept = [position for position, result in enumerate(loaded) if not isinstance(result, ItemError)]
        failures = [(i, str(result)) for i, result in enumerate(loaded) if isinstance(result, ItemError)]
        values = [loaded[position] for position in kept]
        prepared = self._backbone.prepare([value for value, _ in values]) if values else []
        # batches of like lengths waste no work on padding; the rows go back to their places
        order = sorted(range(len(prepared)), key=lambda i: (self._backbone.length(prepared[i]), i))
        vectors: Matrix | None = None
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            x = self._forward([prepared[row] for row in rows])
            if vectors is None:
                vectors = np.empty((len(prepared), x.shape[1]), np.float32)
            vectors[rows] = x
            if report is not None:
                report(len(rows))
        return Encoded(
            vectors=np.empty((0, self.pooled_dim), np.float32) if vectors is None else vectors,
            kept=kept,
            hashes=[digest for _, digest in values],
            truncated=[self._backbone.is_cut(item) for item in prepared],
            failures=failures,
        )

    def _forward(self, batch: list[Any]) -> Matrix:
        from embedsearch.pooling import pool

        recipe = self.recipe
        features = self._backbone.extract(batch, recipe.layers)
        pooled = [pool(features[layer], recipe.pooling, gem_p=recipe.gem_p).cpu().numpy() for layer in recipe.layers]
        if len(pooled) == 1:
            return pooled[0]
        return np.concatenate([l2_normalize(x) for x in pooled], axis=1)

    def _load(self, contents: Sequence[Any]) -> list[Any]:
        """(value, hash) of each input, or the ItemError that tells why there is none."""
        recipe = self.recipe

        def load(content: Any) -> Any:
            try:
                if isinstance(content, ItemError):
                    return content
                if recipe.modality is Modality.TEXT:
                    return load_text(content)
                return load_image(content, int(recipe.size or 0), recipe.fit)
            except ItemError as error:
                return error

        if recipe.modality is Modality.TEXT or len(contents) == 1 or self._workers == 1:
            return [load(content) for content in contents]
        with ThreadPoolExecutor(self._workers) as threads:
            return list(threads.map(load, contents))


def resolve(recipe: Recipe, backbone: Backbone) -> Recipe:
    """The recipe with everything that was left to the backbone written out."""
    layers = recipe.layers or (backbone.default_layer,)
    for layer in layers:
        backbone.check_layer(layer)
    return replace(
        recipe,
        modality=backbone.modality,
        # absolute, so that a query from another folder finds them
        weights=str(Path(recipe.weights).absolute()) if Path(recipe.weights).exists() else recipe.weights,
        weights_sha256=backbone.weights_sha256,
        layers=layers,
        size=backbone.size,
        max_tokens=backbone.max_tokens,
    )
