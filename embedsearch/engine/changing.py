"""Adding to an index that exists: from what a user names to a source that fits it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedsearch.artifact import Manifest, verify_files
from embedsearch.engine.elsewhere import Elsewhere, load_encoder
from embedsearch.engine.inputs import Beside, open_input, read_as
from embedsearch.errors import ContradictionError, SourceError, UsageError
from embedsearch.pipeline.change.add import AddReport, run_add
from embedsearch.sources import ArraySource, ItemSource
from embedsearch.types import Modality, NoProgress, Progress

if TYPE_CHECKING:
    from embedsearch.pipeline.encode import Encoder


def add(
    root: Path,
    manifest: Manifest,
    source: Any,
    beside: Beside,
    encoder: Callable[[], Encoder],
    *,
    restart: bool = False,
    progress: Progress | None = None,
) -> AddReport:
    """See `Index.add`. manifest: of the index. encoder: gives its own, and is asked only where one is needed."""
    opened = open_as_held(root, manifest, source, beside)
    network = None if isinstance(opened, ArraySource) else encoder()
    if network is not None and network.recipe.code_sha256 != manifest.recipe.code_sha256:
        raise ContradictionError(
            f"the code of {network.recipe.backbone} is not what {root} was built with, so vectors may differ; "
            "bring the code back, or build the index anew"
        )
    if network is not None:
        network.require_precision()
    return run_add(opened, root, manifest.recipe, network, restart=restart, progress=progress or NoProgress())


def encoder_of(root: Path, manifest: Manifest, elsewhere: Elsewhere, **run: Any) -> Encoder:
    """The encoder of an index that is not opened, whose files nobody has verified; see `load_encoder`."""
    if manifest.postprocess is not None:
        verify_files(root, {manifest.postprocess: manifest.files[manifest.postprocess]})
    return load_encoder(root, manifest, elsewhere, **run)


def open_as_held(root: Path, manifest: Manifest, source: Any, beside: Beside) -> ItemSource | ArraySource:
    """The source, read as what the index holds. Raises UsageError or SourceError where it is something else."""
    holds = manifest.recipe.modality
    asked = None if holds is Modality.VECTOR else holds
    opened = open_input(source, beside, read_as(source, asked, with_network=asked is not None))
    if opened.modality is Modality.TENSOR and holds is Modality.IMAGE:
        opened.modality = Modality.IMAGE  # an array a picture, for a network that reads pictures
    if opened.modality is not holds:
        error = SourceError if isinstance(source, str | Path) else UsageError
        raise error(f"{opened.location} holds {opened.modality.value}s, {root} holds {holds.value}s")
    return opened
