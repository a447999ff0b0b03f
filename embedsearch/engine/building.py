"""Building an index, as a function of a source and a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedsearch.config import Recipe, parse_enum, read_recipe
from embedsearch.engine.index import Index
from embedsearch.engine.opening import open as open_index
from embedsearch.errors import SourceError, UsageError
from embedsearch.pipeline.build import BuildReport, run_build
from embedsearch.sources import ArraySource, ItemSource, open_source
from embedsearch.sources.table import Columns
from embedsearch.types import Metric, Modality, NoProgress, Progress

if TYPE_CHECKING:
    import pandas
    import pyarrow as pa
    from numpy.typing import ArrayLike

_DEFAULT_BACKBONE = {Modality.IMAGE: "vgg16", Modality.TEXT: "minilm"}


def build(
    source: str | Path | ArrayLike,
    out: str | Path,
    *,
    ids: Sequence[Any] | None = None,
    metadata: pa.Table | pandas.DataFrame | Mapping[str, Any] | None = None,
    **options: Any,
) -> Index:
    """Builds an index and opens it; see `build_with_report` for the options.

    source: a path, glob or URL, or a matrix N x D of vectors with `ids` and `metadata` beside it.
    An interrupted build goes on where it was; a finished one is brought in line with its source.
    """
    build_with_report(source, out, ids=ids, metadata=metadata, **options)
    return open_index(out)


def build_with_report(
    source: str | Path | ArrayLike,
    out: str | Path,
    *,
    ids: Sequence[Any] | None = None,
    metadata: pa.Table | pandas.DataFrame | Mapping[str, Any] | None = None,
    recipe: str | Path | Mapping[str, Any] | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    layer: str | Sequence[str] | None = None,
    pooling: str | None = None,
    gem_p: float | None = None,
    size: int | None = None,
    fit: str | None = None,
    max_tokens: int | None = None,
    pca: int | None = None,
    whiten: int | None = None,
    metric: str | None = None,
    normalize: bool | None = None,
    precision: str | None = None,
    modality: str | None = None,
    id_column: str | None = None,
    text_column: str | None = None,
    image_column: str | None = None,
    index: str = "auto",
    batch_size: int | None = None,
    device: str = "auto",
    workers: int | None = None,
    restart: bool = False,
    progress: Progress | None = None,
) -> BuildReport:
    """Builds an index and says what was done.

    recipe: a file or mapping of recipe fields; the options from backbone to modality override its
    fields, and are explained at `Encoder` and `Recipe`. index: "auto", "flat" or "hnsw". restart:
    throws away an unfinished build, or replaces an index of another recipe. progress: is told of stages.
    """
    fields: dict[str, Any] = dict(recipe) if isinstance(recipe, Mapping) else {}
    if isinstance(recipe, str | Path):
        fields = read_recipe(Path(recipe))
    asked = {
        "backbone": backbone,
        "weights": weights,
        "layers": None if layer is None else [layer] if isinstance(layer, str) else list(layer),
        "pooling": pooling,
        "gem_p": gem_p,
        "size": size,
        "fit": fit,
        "max_tokens": max_tokens,
        "pca": pca,
        "whiten": whiten,
        "metric": metric,
        "normalize": normalize,
        "precision": None if precision == "auto" else precision,
        "modality": modality,
    }
    fields |= {name: value for name, value in asked.items() if value is not None}
    columns = Columns(id_column, text_column, image_column)
    opened = _open(source, ids, metadata, fields.get("modality"), columns)
    known_encoder_fields = {"backbone", "weights", "layers", "pooling", "gem_p", "size", "fit", "max_tokens"}
    if isinstance(opened, ArraySource):
        useless = sorted(name for name in known_encoder_fields if name in fields)
        if useless:
            raise UsageError(f"{useless[0]!r} is for pictures and texts; these are vectors already")
    request = _request(opened.modality, fields)
    encoder = None
    if not isinstance(opened, ArraySource):
        from embedsearch.pipeline.encode import Encoder

        encoder = Encoder.from_recipe(request, device=device, batch_size=batch_size, workers=workers)
        if encoder.recipe.modality is not opened.modality:
            raise UsageError(
                f"backbone {request.backbone!r} reads {encoder.recipe.modality.value}s, "
                f"{opened.location} holds {opened.modality.value}s; name another with --backbone"
            )
        request = encoder.recipe
    return run_build(
        opened, Path(out), request, encoder, index=index, restart=restart, progress=progress or NoProgress()
    )


def _open(
    source: Any, ids: Sequence[Any] | None, metadata: Any, modality: str | None, columns: Columns
) -> ItemSource | ArraySource:
    if not isinstance(source, str | Path):
        return ArraySource.from_memory(source, ids, metadata)
    if ids is not None or metadata is not None:
        raise UsageError("ids and metadata go with a matrix; a table names its columns instead")
    kind = None if modality is None else parse_enum(Modality, modality, "modality")
    opened = open_source(str(source), modality=None if kind is Modality.VECTOR else kind, columns=columns)
    if kind is not None and opened.modality is not kind:
        raise SourceError(f"{opened.location} holds {opened.modality.value}s, not {kind.value}s")
    return opened


def _request(modality: Modality, fields: dict[str, Any]) -> Recipe:
    """The recipe as asked for, with the defaults of its modality."""
    fields = {**fields, "modality": modality.value}
    is_vector = modality is Modality.VECTOR
    if not is_vector:
        fields.setdefault("backbone", _DEFAULT_BACKBONE[modality])
    cosine = parse_enum(Metric, fields.get("metric", "cosine"), "metric") is Metric.COSINE
    # lengths of given vectors mean something under ip and l2; those of pooled activations do not
    fields.setdefault("normalize", cosine or not is_vector)
    return Recipe.from_dict(fields)
