"""The encoder of an index, rebuilt from its manifest, with parts that lie elsewhere now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedsearch.artifact import Manifest
from embedsearch.config import FROM_FACTORY, MODULE_SCHEME, Recipe, is_own
from embedsearch.errors import ContradictionError
from embedsearch.postprocess import Projection
from embedsearch.types import Modality

if TYPE_CHECKING:
    from embedsearch.pipeline.encode import Encoder


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Where parts of the encoder are now, if not where the manifest says: the path of the weights, the network
    or its name, the preprocess or its name."""

    weights: str | None = None
    backbone: Any = None
    preprocess: str | Callable[[Any], Any] | None = None


def load_encoder(root: Path, manifest: Manifest, elsewhere: Elsewhere, **run: Any) -> Encoder:
    """The encoder that the index at `root` was built with; this imports torch.

    run: batch_size, device and threads, which do not change a vector. Raises ContradictionError for an index of plain
    vectors, or parts that are not those of the index.
    """
    if manifest.recipe.modality is Modality.VECTOR:
        raise ContradictionError(f"{root} holds plain vectors; ask by id or by vector")
    from embedsearch.pipeline.encode import Encoder

    projection = Projection.load(root / manifest.postprocess) if manifest.postprocess else None
    recipe = manifest.recipe if elsewhere.weights is None else replace(manifest.recipe, weights=elsewhere.weights)
    if isinstance(elsewhere.backbone, str):
        _require_same_kind(manifest.recipe.backbone, elsewhere.backbone)
        recipe = replace(recipe, backbone=elsewhere.backbone)
    if elsewhere.preprocess is not None:
        _require_code(manifest.recipe, elsewhere.preprocess)
    module = None if isinstance(elsewhere.backbone, str) else elsewhere.backbone
    return Encoder.from_recipe(recipe, projection=projection, module=module, preprocess=elsewhere.preprocess, **run)


def fitted_how(root: Path, manifest: Manifest) -> str:
    """How the PCA or whitening of the index at `root` was fitted; "" without one, or where that was not kept."""
    return Projection.load(root / manifest.postprocess).note if manifest.postprocess else ""


def _require_same_kind(built_with: str | None, given: str) -> None:
    if not (is_own(str(built_with)) and is_own(given)):
        raise ContradictionError(
            f"the index was built with backbone {built_with!r}, which is found by its name; {given!r} is not asked for"
        )


def _require_code(recipe: Recipe, preprocess: Any) -> None:
    """Raises ContradictionError for another preprocess than the index has, unless both are code of the user's own."""
    kept = recipe.preprocess
    is_code = not isinstance(preprocess, str) or preprocess.startswith(MODULE_SCHEME)
    is_own_kept = kept == FROM_FACTORY or is_own(str(kept))
    if preprocess != kept and not (is_own_kept and is_code):
        given = repr(preprocess) if isinstance(preprocess, str) else "a function"
        raise ContradictionError(f"the index was built with preprocess {kept!r}, not {given}; leave it out")
