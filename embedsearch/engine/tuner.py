"""Choosing a recipe: from what a user names to a source, a network and labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from embedsearch.config import AUTO, Recipe, parse_enum
from embedsearch.engine.evaluating import by_of
from embedsearch.engine.inputs import Beside, open_input, read_as
from embedsearch.errors import SourceError, UsageError
from embedsearch.sources import ArraySource, Columns
from embedsearch.types import Modality, NoProgress, Progress

if TYPE_CHECKING:
    from embedsearch.pipeline.tune.report import Tuned

_DEFAULT_BACKBONE = {Modality.IMAGE: "vgg16", Modality.TEXT: "minilm"}


class NetworkOptions(TypedDict, total=False):
    """What a recipe fixes beforehand; None leaves it to its default. See `Recipe`."""

    weights: str | Path | None
    size: int | None
    fit: str | None
    max_tokens: int | None
    overlap: int | None
    long_texts: str | None
    modality: str | None
    id_column: str | None
    text_column: str | None
    image_column: str | None
    device: str
    batch_size: int | None
    threads: int | None


def tune(
    source: Any,
    labels: Any = None,
    *,
    label_column: str | None = None,
    label_folders: bool = False,
    backbone: str | None = None,
    layers: Sequence[str] | None = None,
    poolings: Sequence[str] | None = None,
    sample: int | None = None,
    out: str | Path | None = None,
    heatmap: str | Path | None = None,
    progress: Progress | None = None,
    **options: Unpack[NetworkOptions],
) -> Tuned:
    """Finds which layers, pooling and projection suit the data: one pass over a sample, every choice scored.

    source: as `build` takes it, of pictures or texts. labels: a file or mapping, as `Index.evaluate` takes them; or
    label_column, or label_folders; one of the three, or none: then tasks are made of the items themselves, and where
    these do not tell, no recipe is written. backbone: a name, by default what a build takes. layers, poolings: to try,
    by default those that suit. sample: items at most. out: the recipe file for `build(recipe=...)`; what a killed run
    has extracted is kept beside it. heatmap: a picture of layers x poolings. options: see `NetworkOptions`.
    Raises EmbedSearchError of all kinds; UsageError for labels that are too few.
    """
    from embedsearch.pipeline.encode import Encoder
    from embedsearch.pipeline.tune.drawing import draw_tuned
    from embedsearch.pipeline.tune.tune import tune_source
    from embedsearch.presenters.sheet import check_path

    by = None
    if labels is not None or label_column is not None or label_folders:
        by = by_of(labels, label_column, label_folders)
    if sample is not None and sample < 10:
        raise UsageError(f"sample is {sample}; it must be at least 10")
    target = None if out is None else Path(out)
    if target is not None and not target.absolute().parent.is_dir():
        raise UsageError(f"{target} cannot be written: the folder {target.parent} does not exist")
    if target is not None and target.is_dir():
        raise UsageError(f"{target} cannot be written: it is a folder; give the name of a file")
    picture = None if heatmap is None else Path(heatmap)
    if picture is not None:
        check_path(picture)
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    columns = Columns(*(given.pop(f"{name}_column", None) for name in ("id", "text", "image")))
    run = {name: given.pop(name) for name in ("batch_size", "device", "threads") if name in given}
    kind = parse_enum(Modality, given["modality"], "modality") if "modality" in given else None
    opened = open_input(source, Beside(columns=columns), read_as(source, kind, backbone is not None))
    if isinstance(opened, ArraySource):
        raise SourceError(f"{opened.location} holds vectors already; tune chooses how a network makes them")
    network = backbone or _DEFAULT_BACKBONE.get(opened.modality)
    if "weights" in given:
        given["weights"] = str(given["weights"])
    recipe = {"precision": "auto", "pooling": AUTO, "backbone": network, **given, "modality": opened.modality.value}
    encoder = Encoder.from_recipe(Recipe.from_dict(recipe), **run)
    if encoder.recipe.modality is not opened.modality:
        raise UsageError(
            f"backbone {encoder.recipe.backbone!r} reads {encoder.recipe.modality.value}s, "
            f"{opened.location} holds {opened.modality.value}s; name another with --backbone"
        )
    tuned: Tuned = tune_source(
        opened,
        encoder,
        by,
        layers=layers or (),
        poolings=poolings or (),
        sample=sample,
        out=target,
        progress=progress or NoProgress(),
    )
    if picture is not None:
        draw_tuned(tuned, picture)
    return tuned
