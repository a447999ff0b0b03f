"""Building an index, as a function of a source and a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from embedsearch.artifact import Layout
from embedsearch.config import AUTO, Recipe, RecipeFields, parse_enum, read_recipe
from embedsearch.engine.index import Index
from embedsearch.engine.inputs import Beside, open_input, read_as, warn_of_skips
from embedsearch.engine.opening import open as open_index
from embedsearch.errors import SourceError, UsageError, unknown
from embedsearch.index.choose import changed_request
from embedsearch.pipeline.build import BuildReport, run_build
from embedsearch.pipeline.fit import check_width
from embedsearch.pipeline.state import recorded_recipe
from embedsearch.pipeline.table import EmbeddingTable
from embedsearch.sources import ArraySource, Columns, ItemSource
from embedsearch.types import Metric, Modality, NoProgress, Progress

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from embedsearch.engine.inputs import Metadata

_DEFAULT_BACKBONE = {Modality.IMAGE: "vgg16", Modality.TEXT: "minilm"}
_ONLY_FOR_ENCODERS = (
    "backbone", "weights", "preprocess", "channels", "layers", "layer_weights", "combine", "pooling", "gem_p",
    "size", "fit",
    "scales", "flip", "max_tokens", "overlap", "long_texts", "precision",
)  # fmt: skip


class BuildOptions(RecipeFields, total=False):
    """The options of a build beside the fields of its recipe.

    ids, metadata: beside a matrix or an embedding table; one id a row, or a file with one a line, and a table
    (pyarrow, pandas, a mapping of columns, a list of mappings, or a file: .csv, .jsonl, .parquet, whose id column gives
    the ids). ids go with the lines of a file of texts as well. id_prefix: stands before every id. backbone,
    preprocess: also a network and a function in Python; opening the index elsewhere takes them again.
    recipe: a file or mapping of recipe fields; those given by name override it. id_column, text_column,
    image_column: of a table. index: "auto", "flat", "graph", "ivf", "hnsw" or a FAISS factory string. recall:
    recall@10 against exact search that is promised, such as 0.95. memory: that the index may take, as bytes or "2GiB".
    latency_ms: that one query alone may take. Of a finished index, what is not given of these four stays as it
    was asked for before. batch_size, device, threads: see `Encoder`.
    restart: throws away an unfinished build, or replaces an index of another recipe. progress: is told of
    stages.
    """

    ids: Sequence[Any] | str | Path | None
    metadata: Metadata
    recipe: str | Path | Mapping[str, Any] | None
    id_column: str | None
    id_prefix: str | None
    text_column: str | None
    image_column: str | None
    index: str | None
    recall: float | None
    memory: int | str | None
    latency_ms: float | None
    batch_size: int | None
    device: str
    threads: int | None
    restart: bool
    progress: Progress | None


def build(source: str | Path | ArrayLike | EmbeddingTable, out: str | Path, **options: Unpack[BuildOptions]) -> Index:
    """Builds an index in the folder `out` and opens it.

    source: a path, glob or URL, a matrix N x D of vectors, an EmbeddingTable or FILE::PARAMETER of one, or with
    a backbone an array N x ... of what it reads. options: see `BuildOptions`, and
    `config.Recipe` for what decides the vectors (backbone, layer, pooling, whiten, metric, ...).
    An interrupted build goes on where it was; a finished one is brought in line with its source. Warns
    when inputs were left out (they are listed in skipped.jsonl). Raises EmbedSearchError of all kinds; an
    index that was there stays as it was.
    """
    report = build_with_report(source, out, **options)
    warn_of_skips(Path(out), report.n_skipped, report.reasons)
    backbone = options.get("backbone")
    return open_index(
        out,
        backbone=None if isinstance(backbone, str) else backbone,
        preprocess=options.get("preprocess") if callable(options.get("preprocess")) else None,
    )


def build_with_report(source: Any, out: str | Path, **options: Unpack[BuildOptions]) -> BuildReport:
    """The same without opening the index; says what was done."""
    given: dict[str, Any] = dict(options)
    for name in given:
        if name not in BuildOptions.__annotations__:
            raise unknown("option of a build", name, BuildOptions.__annotations__)
    recipe, ids, metadata = (given.pop(name, None) for name in ("recipe", "ids", "metadata"))
    columns = Columns(*(given.pop(f"{name}_column", None) for name in ("id", "text", "image")))
    beside = Beside(ids, metadata, columns, given.pop("id_prefix", None))
    run = {name: given.pop(name) for name in ("batch_size", "device", "threads") if name in given}
    restart = given.pop("restart", False)
    promised = [given.pop(name, None) for name in ("index", "recall", "memory", "latency_ms")]
    wanted = changed_request(*promised)
    silent = given.pop("progress", None) or NoProgress()
    # what is given in Python goes beside the recipe, which holds names only
    module = given.pop("backbone") if not isinstance(given.get("backbone"), str | None) else None
    preprocess = given.pop("preprocess") if callable(given.get("preprocess")) else None
    asked = {**_fields_of(recipe), **_without_unset(given)}
    kind = None if "modality" not in asked else parse_enum(Modality, asked["modality"], "modality")
    with_network = module is not None or "backbone" in asked
    opened = open_input(source, beside, read_as(source, kind, with_network))
    if isinstance(opened, ArraySource):
        _require(opened, kind)
        request = _vector_recipe(asked, module)
        check_width(request, opened.dim)
        return run_build(opened, Path(out), request, None, asked=wanted, restart=restart, progress=silent)
    from embedsearch.pipeline.encode import Encoder

    if "pooling" not in asked and not restart:
        recorded = recorded_recipe(Layout(Path(out)))
        if recorded is not None and recorded.backbone is not None and recorded.pooling == "mean":
            asked["pooling"] = "mean"  # built when that was the default of every network: it stays what it is
    request = _encoder_recipe(opened.modality if kind is None else kind, asked, with_network)
    encoder = Encoder.from_recipe(request, module=module, preprocess=preprocess, **run)
    if opened.modality is Modality.TENSOR and encoder.recipe.modality is Modality.IMAGE:
        opened.modality = Modality.IMAGE  # an array a picture, for a network that reads pictures
    _require(opened, kind)
    if encoder.recipe.modality is not opened.modality:
        raise UsageError(
            f"backbone {encoder.recipe.backbone!r} reads {encoder.recipe.modality.value}s, "
            f"{opened.location} holds {opened.modality.value}s; name another with --backbone"
        )
    if encoder.pooled_dim is not None:
        check_width(encoder.recipe, encoder.pooled_dim)
    return run_build(opened, Path(out), encoder.recipe, encoder, asked=wanted, restart=restart, progress=silent)


def _require(opened: ItemSource | ArraySource, asked: Modality | None) -> None:
    if asked is not None and opened.modality is not asked:
        raise SourceError(f"{opened.location} holds {opened.modality.value}s, not {asked.value}s")


def _fields_of(recipe: Any) -> dict[str, Any]:
    if recipe is None:
        return {}
    return dict(recipe) if isinstance(recipe, Mapping) else read_recipe(Path(recipe))


def _without_unset(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Recipe fields as `Recipe` names them, without those that were left to their defaults."""
    given = {name: value for name, value in fields.items() if value is not None}
    if "weights" in given:
        given["weights"] = str(given["weights"])
    if "layer" in given:
        layer = given.pop("layer")
        given["layers"] = [layer] if isinstance(layer, str) else list(layer)
    return given


def _encoder_recipe(modality: Modality, fields: dict[str, Any], with_network: bool) -> Recipe:
    usual = {} if with_network else {"backbone": _DEFAULT_BACKBONE.get(modality)}
    # unit length is the default under every metric: lengths of pooled activations mean little
    return Recipe.from_dict({"precision": "auto", "pooling": AUTO, **usual, **fields, "modality": modality.value})


def _vector_recipe(fields: dict[str, Any], module: Any) -> Recipe:
    if module is not None:
        raise UsageError("'backbone' is for what a network reads; the rows of an embedding table are vectors already")
    useless = [name for name in _ONLY_FOR_ENCODERS if name in fields]
    if useless:
        name = "layer" if useless[0] == "layers" else useless[0]
        raise UsageError(f"{name!r} is for pictures and texts; these are vectors already")
    metric = parse_enum(Metric, fields.get("metric", "cosine"), "metric")
    # lengths of given vectors mean something under ip and l2
    return Recipe.from_dict({"normalize": metric is Metric.COSINE, **fields, "modality": "vector"})
