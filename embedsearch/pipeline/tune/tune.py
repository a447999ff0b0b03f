"""From a source to the recipe that suits it: one pass over a sample, then arithmetic."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.artifact import write_atomically
from embedsearch.config import Recipe
from embedsearch.errors import ItemError, UsageError, counted
from embedsearch.evaluate.bootstrap import Figure, bootstrapped
from embedsearch.pipeline.encode import Encoder
from embedsearch.pipeline.extract import content_or_error
from embedsearch.pipeline.judging.judge import By
from embedsearch.pipeline.tune.candidates import Candidate, candidate_layers
from embedsearch.pipeline.tune.labelled import MEASURE, tune_by_labels
from embedsearch.pipeline.tune.pooled import SHARD, Pooled, key_of, pool_sample, work_folder
from embedsearch.pipeline.tune.report import Scored, Tuned
from embedsearch.pipeline.tune.sample import Sample, draw
from embedsearch.pipeline.tune.splits import split
from embedsearch.pipeline.tune.sweep import Sweep
from embedsearch.pipeline.tune.tapped import TappedNetwork
from embedsearch.pipeline.tune.unlabelled import MEASURE as TASK_MEASURE
from embedsearch.pipeline.tune.unlabelled import thirds, tune_by_tasks
from embedsearch.pipeline.tune.views import ITSELF, Task, seen, tasks_of
from embedsearch.registry import POOLING
from embedsearch.sources import ItemSource
from embedsearch.types import Item, Modality, Progress

SAMPLE, SAMPLE_OF_TASKS = 1000, 300  # with labels, and without: each task is a pass of its own
LEAST_PART = 10
UNLABELLED = "items without labels count as wrong answers, so these figures are lower than true ones; compare them"
Values = NDArray[np.float64]
_LOOKED_AT = 16  # items that the precision is chosen by


def tune_source(
    source: ItemSource,
    encoder: Encoder,
    by: By | None,
    *,
    layers: Sequence[str],
    poolings: Sequence[str],
    sample: int | None,
    out: Path | None,
    progress: Progress,
) -> Tuned:
    """See `embedsearch.tune`. encoder: of the recipe that a build would take, which is the default that candidates are
    compared with. layers, poolings: to try, empty for the usual ones."""
    if by is None and not tasks_of(encoder.recipe.modality):
        raise UsageError("without labels, tasks are made of pictures and texts; for other items give --labels FILE")
    for pooling in poolings:
        POOLING.get(pooling)
    default = Candidate(encoder.recipe.layers, encoder.recipe.pooling)
    encoder.tap(candidate_layers(encoder.backbone, layers))
    progress.stage("reading the source", None)
    drawn = draw(source, by, sample or (SAMPLE_OF_TASKS if by is None else SAMPLE))
    # what is too little is refused before the pass
    if drawn.truth is None:
        _require_enough(len(drawn.items))
    else:
        split(drawn.truth, len(drawn.items))
    encoder.settle_precision(_contents(drawn.items[:_LOOKED_AT], ITSELF, encoder.recipe.modality))
    wanted = list(dict.fromkeys([*poolings, default.pooling])) if poolings else []
    network = encoder.network_of(partial(TappedNetwork, poolings=wanted), encoder.recipe)
    contents = partial(_contents, modality=encoder.recipe.modality)
    with ExitStack() as stack:
        beside = out or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "tuned"
        tasks = {} if by is not None else tasks_of(encoder.recipe.modality)
        views = list(dict.fromkeys([ITSELF, *(view for t in tasks.values() for view in (t.answering, t.asking))]))
        key = key_of(drawn.items, encoder, wanted, views)
        folder = stack.enter_context(work_folder(beside, key))
        pooled = pool_sample(drawn.items, encoder, network, contents, views, folder, progress)
        if pooled.n_resumed:
            files = counted(pooled.n_resumed, "file")
            drawn.notes.append(f"an earlier run was gone on from, which had left {files} of up to {SHARD} items")
        for layer, same in pooled.repeats(default.layers[0]).items():
            pooled.cells = {cell: width for cell, width in pooled.cells.items() if cell.layer != layer}
            drawn.notes.append(f"layer {layer} gives what {same} gives, so it is not tried beside it")
        if by is not None:
            tuned = _by_labels(drawn, pooled, encoder, default, progress)
        else:
            tuned = _by_tasks(drawn, pooled, encoder, default, tasks, views, progress)
        if out is not None and tuned.recipe is not None:
            write_atomically(out, (json.dumps(tuned.recipe, indent=2) + "\n").encode())
            tuned.out = out
    return tuned


def _contents(items: Sequence[Item], view: str, modality: Modality) -> list[Any]:
    """What the encoder reads of items in a view, or the ItemError that tells why it cannot be made."""
    found: list[Any] = []
    for item in items:
        try:
            found.append(seen(content_or_error(item, modality), view, modality, item.id))
        except ItemError as error:
            found.append(error)
    return found


def _by_labels(drawn: Sample, pooled: Pooled, encoder: Encoder, default: Candidate, progress: Progress) -> Tuned:
    assert drawn.truth is not None
    kept = pooled.kept
    truth = drawn.truth.some(kept[kept < drawn.n_judged])
    parts = split(truth, len(kept))
    sweep = Sweep(pooled, parts.fit)
    singles = [Candidate((cell.layer,), cell.pooling) for cell in pooled.cells]
    found = tune_by_labels(sweep, singles, default, parts, progress)
    origin = found.candidates.index(default)
    reports = {default: found.usual} if found.taken == default else {default: found.usual, found.taken: found.unseen}
    scored = [
        _scored(candidate, row, encoder, sweep, reports, found.groups, row - found.values[origin])
        for candidate, row in zip(found.candidates, found.values, strict=True)
    ]
    by_candidate = dict(zip(found.candidates, scored, strict=True))
    folds = [parts.judged[found.asking[found.folds == fold]] for fold in range(int(found.folds.max()) + 1)]
    named = {"fit": parts.fit, "answer": parts.beside} | {f"fold {n}": rows for n, rows in enumerate(folds, start=1)}
    tuned = Tuned(
        measure=MEASURE,
        labelled=True,
        ranked=[scored[at] for at in np.argsort(-found.sureness, kind="stable")],
        default=by_candidate[default],
        chosen=by_candidate[found.taken],
        difference={} if found.taken == default else found.difference,
        recipe=recipe_fields(encoder.recipe, found.taken),
        n_source=drawn.n_source,
        parts=_ids_of(named, drawn, kept),
        n_asked=len(found.asking),
        whole_labels=parts.whole,
        verdict=found.verdict,
        notes=drawn.notes + ([] if not len(parts.beside) else [UNLABELLED]),
        reasons=pooled.reasons,
    )
    fill_heat(tuned, encoder.recipe.layers)
    return tuned


def _by_tasks(
    drawn: Sample,
    pooled: Pooled,
    encoder: Encoder,
    default: Candidate,
    tasks: Mapping[str, Task],
    views: Sequence[str],
    progress: Progress,
) -> Tuned:
    _require_enough(len(pooled.kept))
    parts = thirds(len(pooled.kept))
    sweep = Sweep(pooled, parts.fit, len(views))
    numbered = {name: (views.index(task.asking), views.index(task.answering)) for name, task in tasks.items()}
    singles = [Candidate((cell.layer,), cell.pooling) for cell in pooled.cells]
    found = tune_by_tasks(sweep, singles, default, numbered, parts, progress)
    reports = {default: found.default_figures, found.best: found.best_figures}
    by_candidate = {
        candidate: _scored(candidate, row, encoder, sweep, reports)
        for candidate, row in zip(found.candidates, found.values, strict=True)
    }
    tuned = Tuned(
        measure=TASK_MEASURE,
        labelled=False,
        ranked=sorted(by_candidate.values(), key=lambda each: -each.choosing.mean),
        default=by_candidate[default],
        chosen=None if found.taken is None else by_candidate[found.taken],
        difference={} if found.best == default else found.difference,
        recipe=None if found.taken is None else recipe_fields(encoder.recipe, found.taken),
        n_source=drawn.n_source,
        parts=_ids_of({"fit": parts.fit, "choose": parts.choose, "report": parts.report}, drawn, pooled.kept),
        n_asked=len(parts.report),
        whole_labels=False,
        verdict=found.verdict,
        tasks={name: task.told for name, task in tasks.items()},
        agreement=found.agreement,
        notes=drawn.notes,
        reasons=pooled.reasons,
    )
    fill_heat(tuned, encoder.recipe.layers)
    return tuned


def _require_enough(n_items: int) -> None:
    """Raises UsageError where items are too few for three parts."""
    if n_items < 3 * LEAST_PART:
        raise UsageError(
            f"{counted(n_items, 'item')} are too few to tune on without labels; at least {3 * LEAST_PART} are needed"
        )


def _scored(
    candidate: Candidate,
    values: Values,
    encoder: Encoder,
    sweep: Sweep,
    reports: Mapping[Candidate, dict[str, Figure]],
    groups: NDArray[np.int64] | None = None,
    gains: Values | None = None,
) -> Scored:
    return Scored(
        candidate,
        bootstrapped(values, groups),
        gflop_of(encoder, candidate),
        4 * sweep.width(candidate),
        None if gains is None else bootstrapped(gains, groups),
        reports.get(candidate),
    )


def _ids_of(parts: Mapping[str, NDArray[np.int64]], drawn: Sample, kept: NDArray[np.int64]) -> dict[str, list[str]]:
    return {name: [drawn.items[at].id for at in kept[rows]] for name, rows in parts.items()}


def fill_heat(tuned: Tuned, layers: Sequence[str]) -> None:
    """Layers x poolings: the best of single layers, over projections."""
    best: dict[tuple[str, str], float] = {}
    for each in tuned.ranked:
        c = each.candidate
        if len(c.layers) == 1:
            cell = (c.layers[0], c.pooling)
            best[cell] = max(best.get(cell, -np.inf), each.choosing.mean)
    tuned.poolings = list(dict.fromkeys(pooling for _, pooling in sorted(best, key=lambda cell: cell[1])))
    tuned.layers = [layer for layer in layers if any((layer, pooling) in best for pooling in tuned.poolings)]
    tuned.heat = [[best.get((layer, pooling), float("nan")) for pooling in tuned.poolings] for layer in tuned.layers]


def gflop_of(encoder: Encoder, candidate: Candidate) -> float | None:
    """Of one item up to the last of the layers."""
    known = {info.name: info.gflop for info in encoder.layers()}
    costs = [known[layer.partition("@")[0]] for layer in candidate.layers]
    return None if any(cost is None for cost in costs) else max(cost for cost in costs if cost is not None)


def recipe_fields(recipe: Recipe, candidate: Candidate) -> dict[str, Any]:
    """What `build --recipe` takes: the candidate, the network by name and hash, and what is not left to defaults."""
    always = ("modality", "backbone", "weights", "weights_sha256", "layers", "combine", "pooling")
    usual = Recipe(recipe.modality).to_dict()
    told = Recipe.from_dict({**recipe.to_dict(), **candidate.fields()}).to_dict()
    del told["precision"]  # chosen anew by each build, unless it is told
    return {name: value for name, value in told.items() if name in always or value != usual[name]}
