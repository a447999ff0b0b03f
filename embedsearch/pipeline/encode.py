"""The encoder: content in, vectors out; the same object for a build, a query, and a user's own code."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedsearch.config import AUTO, Recipe, parse_enum
from embedsearch.errors import ItemError, UsageError
from embedsearch.executors import Executor, LocalExecutor, ThreadExecutor, n_cores
from embedsearch.pipeline.content import load, view_size
from embedsearch.pipeline.network import NOT_FINITE, Encoded, PooledNetwork
from embedsearch.pipeline.precision import (
    FLOAT32_ONLY,
    N_COMPARED,
    N_LOOKED_AT,
    NOTHING_READ,
    Choice,
    choose_precision,
    told_of,
)
from embedsearch.pipeline.resolve import resolve
from embedsearch.pipeline.timing import NETWORK, READING, Clock
from embedsearch.postprocess import Postprocess, Projection
from embedsearch.types import Metric, Modality
from embedsearch.vectors import Matrix, finite_rows

if TYPE_CHECKING:
    from embedsearch.backbones import Backbone
    from embedsearch.backbones.windows import TokenSpan
    from embedsearch.types import Features, LayerInfo

N = TypeVar("N", bound=PooledNetwork)

# items that are decoded ahead of the network; bounds the memory of `encode` on long lists
_CHUNK = {Modality.IMAGE: 128, Modality.TEXT: 2048, Modality.TENSOR: 128}


@dataclass(frozen=True, slots=True)
class Given:
    """What was handed over in Python: a network or None, and a preprocess, its name, or None."""

    module: Any = None
    preprocess: str | Callable[[Any], Any] | None = None


class Encoder:
    """A network cut at a layer, with pooling and normalising behind it.

    backbone: a registered name, keras:PATH, module:FILE_OR_PACKAGE:FACTORY, or a torch.nn.Module or Keras
    model in memory, which is never changed. weights: "auto", "packaged", a path, or a hub name.
    layer: a module name or familiar alias, or several; None takes the backbone's default. combine: of several
    layers, "concat" (each pooled, L2-normalised and times its entry of layer_weights, one after the
    other) or "mean" (of the activations, before pooling). pooling: a registered name, or "auto", what
    a build takes when none is named: R-MAC for the maps of a VGG, else the mean; gem_p: exponent of gem.

    Of a network of your own: modality: "tensor" (the default: arrays of its own input shape, without a batch
    axis), "image" or "text". preprocess: the function from one item (of pictures an upright RGB PIL image)
    to such an array, or how pixels are scaled: "torch", "caffe", "tf", "unit", "raw". channels: of its
    layers' B x C x H x W and B x C x L outputs "first", of B x H x W x C and B x L x C "last"; "auto"
    goes by the type of the layer.

    Of pictures: shorter side to `size` and centre crop (fit "crop"), or "pad", "squash". scales, flip: also
    at these multiples of size, and mirrored; the L2-normalised vectors are averaged.
    Of texts: max_tokens, overlap: of their windows. long_texts: "windows" pools over all of them, "cut"
    takes the first.

    normalize: vectors have unit length. device: "auto", "cpu", "cuda", "cuda:1"; a build uses every GPU of "auto" and
    "cuda", or those of "cuda:0,cuda:1", with one process each. precision: "float32", "bfloat16", or "auto": bfloat16
    where the processor has it, for networks opened by name, if each of the first vectors then has a cosine of at least
    0.999 to float32; `recipe.precision` tells after the first call. "int8", which `auto` never takes: 8-bit products
    for texts through BERT and its kin, on a CPU with AVX-512-VNNI and AVX-512-BF16 and without AMX. batch_size and
    threads (that decode and compute; all cores by default) change the speed and never the vectors.

    Raises UsageError, UnknownNameError (backbone, layer, pooling), WeightsError, CodeError.
    """

    def __init__(
        self,
        backbone: Any = "vgg16",
        *,
        layer: str | Sequence[str] | None = None,
        layer_weights: Sequence[float] | None = None,
        combine: str = "concat",
        pooling: str = "mean",
        weights: str = "auto",
        preprocess: str | Callable[[Any], Any] | None = None,
        modality: str | None = None,
        channels: str = "auto",
        size: int | None = None,
        fit: str = "crop",
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        gem_p: float = 3.0,
        max_tokens: int | None = None,
        overlap: int | None = None,
        long_texts: str = "windows",
        normalize: bool = True,
        precision: str = "auto",
        device: str = "auto",
        batch_size: int | None = None,
        threads: int | None = None,
    ) -> None:
        asked = None if modality is None else parse_enum(Modality, modality, "modality")
        if asked is Modality.VECTOR:
            raise UsageError("modality 'vector' needs no network; valid: image, text, tensor")
        recipe = Recipe(
            # what it reads, a named network knows better, below; pixels that are to be scaled are a picture's
            modality=asked or (Modality.IMAGE if isinstance(preprocess, str) else Modality.TENSOR),
            metric=Metric.COSINE if normalize else Metric.IP,
            backbone=backbone if isinstance(backbone, str) else None,
            weights=str(weights),
            preprocess=preprocess if isinstance(preprocess, str) else None,
            channels=channels,
            layers=(layer,) if isinstance(layer, str) else tuple(layer or ()),
            layer_weights=tuple(layer_weights or ()),
            combine=combine,
            pooling=pooling,
            gem_p=gem_p,
            size=size,
            fit=fit,
            scales=tuple(scales),
            flip=flip,
            max_tokens=max_tokens,
            overlap=overlap,
            long_texts=long_texts,
            normalize=normalize,
            precision=precision,
        )
        given = Given(None if isinstance(backbone, str) else backbone, preprocess)
        self._setup(recipe, None, given, device, batch_size, threads)
        self.require_precision()
        if asked is not None and self.recipe.modality is not asked:
            raise UsageError(f"{recipe.backbone} reads {self.recipe.modality.value}s, not {asked.value}s")

    @classmethod
    def from_recipe(
        cls,
        recipe: Recipe,
        *,
        projection: Projection | None = None,
        module: Any = None,
        preprocess: str | Callable[[Any], Any] | None = None,
        device: str = "auto",
        batch_size: int | None = None,
        threads: int | None = None,
    ) -> Self:
        """The encoder of a recipe; where the recipe names a sha256, its weights must have it.

        module, preprocess: the network and function that were given in Python, which no recipe can hold.
        """
        encoder = cls.__new__(cls)
        given = Given(module, recipe.preprocess if preprocess is None else preprocess)
        encoder._setup(recipe, projection, given, device, batch_size, threads)
        return encoder

    def _setup(
        self,
        recipe: Recipe,
        projection: Projection | None,
        given: Given,
        device: str,
        batch_size: int | None,
        threads: int | None,
    ) -> None:
        # torch is imported here and not before: a search by id or vector never comes this way
        from embedsearch.backbones import open_backbone
        from embedsearch.registry import POOLING

        if recipe.pooling != AUTO:
            POOLING.get(recipe.pooling)
        for name, value in (("batch_size", batch_size), ("threads", threads)):
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; it must be at least 1")
        self._backbone: Backbone = open_backbone(
            str(recipe.backbone),
            module=given.module,
            weights=recipe.weights,
            size=recipe.size,
            max_tokens=recipe.max_tokens,
            overlap=recipe.overlap,
            windows=recipe.long_texts != "cut",
            modality=recipe.modality,
            preprocess=given.preprocess,
            device=device,
            precision="bfloat16" if recipe.precision == "bfloat16" else "float32",
            channels=recipe.channels,
            expect_sha256=recipe.weights_sha256,
        )
        self.recipe = resolve(recipe, self._backbone)
        if self.recipe.precision == "int8":
            self._backbone = self._opened_for("int8")
        if recipe.code_sha256 not in (None, self.recipe.code_sha256):
            warnings.warn(
                f"the code of {self.recipe.backbone} is not what it was when the index was built; if it computes "
                "something else now, answers are wrong: build the index anew",
                stacklevel=4,
            )
        for scale in self.recipe.scales:
            if scale != 1:
                self._backbone.check_size(view_size(int(self.recipe.size or 0), scale))
        self.postprocess = Postprocess(self.recipe.normalize, projection)
        self._threads = threads or n_cores()
        self._batch_size, self._device = batch_size, device
        self._is_given = given.module is not None or callable(given.preprocess)
        self.precision_reason = "" if recipe.precision == "auto" else "as asked for"
        self._choosing = threading.Lock()
        self.clock = Clock({READING: self._threads, NETWORK: self.n_passes})
        self._network = self.network_of(PooledNetwork, self.recipe)

    def settle_precision(self, contents: Sequence[Any]) -> None:
        """Chooses the precision, where it was left open, by the vectors of the first of `contents` that can be read."""
        with self._choosing:
            if self.recipe.precision != "auto":
                return
            if not self._backbone.has_bfloat16():
                self._take(FLOAT32_ONLY)
                return
            rough = self._backbone.in_precision("bfloat16")  # before this one has run
            both = self._compared(self._backbone, rough, contents)
            choice = NOTHING_READ if both is None else choose_precision(*both, centred=self.recipe.needs_fit)
            if choice.precision == "bfloat16":
                self._backbone = rough
            self._take(choice)

    def tell_precision(self, contents: Sequence[Any]) -> None:
        """Finds out, before the first pass, what the precision that was asked for does to the first of `contents` that
        can be read, for `precision_reason`. Only int8 can be compared; of others it is known."""
        with self._choosing:
            if self.recipe.precision == "int8":
                exact = self._backbone.in_precision("float32")
                both = self._compared(exact, self._backbone, contents)
                if both is None:
                    self._take(Choice("int8", "as asked for, but it fails for inputs that float32 reads"))
                else:
                    self._take(told_of("int8", *both, centred=self.recipe.needs_fit))

    def require_precision(self) -> None:
        """Raises UsageError where the network cannot compute here in what the recipe says."""
        network = self._backbone
        if self.recipe.precision == "int8" and not (
            network.precision == "int8" and network.has_int8(self.recipe.layers)
        ):
            raise UsageError(
                "precision 'int8' is for whole blocks of BERT, RoBERTa and their kin, on a CPU with AVX-512-VNNI and "
                "AVX-512-BF16 and without AMX, which is faster in bfloat16; "
                f"{self.recipe.backbone} at {', '.join(self.recipe.layers)} has it not here; "
                "build with precision 'auto', and anew where there is an index"
            )

    def _compared(self, exact: Backbone, rough: Backbone, contents: Sequence[Any]) -> tuple[Matrix, Matrix] | None:
        """Pooled vectors of the first of `contents` that can be read, both ways; None where one way fails for some."""
        readable = [x for x in self._load(contents[:N_LOOKED_AT]) if not isinstance(x, ItemError)][:N_COMPARED]
        networks = [PooledNetwork(b, self.recipe, self._batch_size, self.n_passes) for b in (exact, rough)]
        found = networks[0].encode(readable, None, chunks=False)
        other = networks[1].encode([readable[i] for i in found.kept], None, chunks=False)
        return (found.vectors, other.vectors) if found.vectors.shape == other.vectors.shape else None

    def take_precision(self, precision: str) -> None:
        """Computes in what an index was built with, where the precision was left open."""
        if self.recipe.precision == "auto":
            self._backbone = self._opened_for(precision)
            self._take(Choice(precision, "as what is stored was"))

    def _opened_for(self, precision: str) -> Backbone:
        """The network, in float32 until now, in `precision`; int8 where it can be computed, and else what is nearest to
        its speed: the vectors are the same within what is promised."""
        if precision == "int8" and not self._backbone.has_int8(self.recipe.layers):
            precision = "bfloat16" if self._backbone.has_bfloat16() else "float32"
        return self._backbone if precision == self._backbone.precision else self._backbone.in_precision(precision)

    def _take(self, choice: Choice) -> None:
        self.recipe = replace(self.recipe, precision=choice.precision)
        self.precision_reason = choice.reason
        self._network.reopen(self._backbone, self.recipe)

    def layers(self) -> list[LayerInfo]:
        """Every layer that can be named; of a network of your own, shapes are known once it has encoded."""
        return self._backbone.layers()

    @property
    def weights_origin(self) -> str:
        """Where the weights were found."""
        return self._backbone.weights_origin

    def encode(self, items: Sequence[Any], *, normalize: bool | None = None) -> Matrix:
        """Vectors float32 N x D of pictures (paths, URLs, bytes, PIL images, arrays), texts, or arrays and
        tensors of the network's own input shape, in order.

        normalize: overrides the encoder's own for this call. Raises ItemError naming the first input
        that cannot be read; for UsageError see the class.
        """
        if isinstance(items, str | bytes):
            raise UsageError("encode takes a list of inputs; for one input there is encode_one")
        postprocess = self.postprocess
        if normalize is not None:
            postprocess = Postprocess(normalize, postprocess.projection)
        self.settle_precision(items)
        parts = []
        at_once = _CHUNK[self.recipe.modality]
        starts = range(0, len(items), at_once)
        lists = (items[start : start + at_once] for start in starts)
        for start, encoded in zip(starts, self.executor().map(lambda: self.pooled, lists), strict=True):
            if encoded.failures:
                position, error = encoded.failures[0]
                shown = str(items[start + position])[:80] if isinstance(items[start + position], str) else ""
                raise ItemError(f"input {start + position}{f' ({shown})' if shown else ''}: {error}") from error
            finite = finite_rows(encoded.vectors)
            if not finite.all():
                raise ItemError(f"input {start + int(np.argmin(finite))}: {NOT_FINITE}")
            parts.append(postprocess(encoded.vectors))
        return np.concatenate(parts) if parts else np.empty((0, self.dim if self._network.dim else 0), np.float32)

    def encode_one(self, item: Any, *, normalize: bool | None = None) -> NDArray[np.float32]:
        """The vector float32 D of one input; see `encode`."""
        vector: NDArray[np.float32] = self.encode([item], normalize=normalize)[0]
        return vector

    @property
    def dim(self) -> int:
        """Dimensions of a vector. Raises UsageError where only a first item can tell."""
        projection = self.postprocess.projection
        if projection is not None:
            return int(projection.matrix.shape[1])
        if self._network.dim is None:
            raise UsageError("the dimensions of this network's vectors are known when the first item was encoded")
        return self._network.dim

    @property
    def pooled_dim(self) -> int | None:
        """Dimensions of a pooled vector, before any projection; None where only a first item can tell."""
        return self._network.dim

    def pooled(
        self, contents: Sequence[Any], report: Callable[[int], None] | None = None, *, chunks: bool = False
    ) -> Encoded:
        """Pooled vectors before any postprocess, and which inputs could not be read.

        report: is told after each batch how many inputs it held. chunks: a row for each window of a long
        text, instead of one for all.
        """
        return self._network.encode(self._load(contents), report, chunks=chunks)

    @property
    def backbone(self) -> Backbone:
        """The network itself, in the precision that was chosen."""
        return self._backbone

    @property
    def n_passes(self) -> int:
        """How many passes run at once."""
        return self._threads if self._backbone.concurrent else 1

    def network_of(self, kind: Callable[..., N], recipe: Recipe) -> N:
        """This network with another kind of pooling, run as this encoder runs its own."""
        return kind(self._backbone, recipe, self._batch_size, self.n_passes, self.clock)

    def tap(self, layers: Sequence[str]) -> None:
        """Goes over to other layers of the same network, as `Backbone.resolve_layer` names them."""
        self.recipe = replace(self.recipe, layers=tuple(layers), layer_weights=(), combine="concat")
        self.require_precision()
        self._network = self.network_of(PooledNetwork, self.recipe)

    def through(self, network: PooledNetwork, contents: Sequence[Any]) -> Encoded:
        """What another pooling of the same network gives; see `pooled`."""
        return network.encode(self._load(contents), None, chunks=False)

    def features(self, content: Any, *, part: int | None = None) -> tuple[list[list[Features]], list[TokenSpan] | None]:
        """One input before pooling; see `PooledNetwork.features`."""
        self.settle_precision([content])
        return self._network.features(load(content, self.recipe), part)

    def executor(self, over: Callable[[], None] = lambda: None) -> Executor:
        """What runs several calls of `pooled`: the next is read and decoded while the network is busy with one.

        over: see ThreadExecutor.
        """
        return ThreadExecutor(2, over) if self._backbone.thread_safe and self._threads > 1 else LocalExecutor()

    def elsewhere(self) -> list[Callable[[], Encoder]]:
        """What makes this encoder anew in another process, one for each of several devices; [] where there is one, or
        where the network was given in Python and can be nowhere else."""
        from embedsearch.backbones import devices_of

        devices = devices_of(self._device)
        if len(devices) == 1 or self._is_given:
            return []
        return [
            partial(
                Encoder.from_recipe,
                self.recipe,
                projection=self.postprocess.projection,
                device=device,
                batch_size=self._batch_size,
                threads=max(self._threads // len(devices), 1),
            )
            for device in devices
        ]

    def _load(self, contents: Sequence[Any]) -> list[Any]:
        """Each input as Loaded, or the ItemError that tells why it is not."""

        def load_one(content: Any) -> Any:
            with self.clock.stage(READING):
                try:
                    return content if isinstance(content, ItemError) else load(content, self.recipe)
                except ItemError as error:
                    return error

        if self.recipe.modality is not Modality.IMAGE or len(contents) == 1 or self._threads == 1:
            return [load_one(content) for content in contents]
        with ThreadPoolExecutor(self._threads) as decoders:
            return list(decoders.map(load_one, contents))
