"""`embedsearch tune`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from embedsearch.cli import options
from embedsearch.cli.app import app
from embedsearch.cli.progress import open_progress

if TYPE_CHECKING:
    from embedsearch.pipeline.tune.report import Tuned

_EXAMPLES = """
Examples:\n
  embedsearch tune photos/ --label-folders\n
  embedsearch tune photos/ --labels labels.csv --out best.json --heatmap best.png\n
  embedsearch build photos/ --recipe best.json\n
  embedsearch tune faq.csv --label-column intent --sample 2000 --json\n
  embedsearch tune photos/ --labels labels.csv --backbone resnet50 --pooling mean --pooling gem\n
  embedsearch tune photos/\n
"""


@app.command(epilog=_EXAMPLES)
def tune(
    source: Annotated[
        str, typer.Argument(help="Pictures or texts, as `embedsearch build` takes them: a folder, a glob, a table, ...")
    ],
    labels: Annotated[
        Optional[Path],
        typer.Option(
            help="FILE.csv, .tsv, .jsonl or .parquet with the columns id,label (the same label is right), or "
            "query,id,grade (a grade above 0 is right), of some of the items."
        ),
    ] = None,
    label_column: Annotated[Optional[str], typer.Option(help="A column of the table: the same value is right.")] = None,
    label_folders: Annotated[
        bool, typer.Option("--label-folders", help="The folder that an id lies in is its label: cat for cat/1.jpg.")
    ] = False,
    backbone: Annotated[
        Optional[str],
        typer.Option(
            help="A torchvision name, bert, minilm, keras:PATH, or module:FILE_OR_PACKAGE:FACTORY. Default: vgg16 for "
            "pictures, minilm for texts."
        ),
    ] = None,
    weights: options.Weights[Optional[str]] = None,
    layer: Annotated[
        Optional[list[str]],
        typer.Option(help="To try; may be repeated. Default: up to ten that end a step of the network."),
    ] = None,
    pooling: Annotated[
        Optional[list[str]], typer.Option(help="To try; may be repeated. Default: those that suit the layer.")
    ] = None,
    size: options.Size = None,
    fit: options.Fit[Optional[str]] = None,
    max_tokens: options.MaxTokens = None,
    overlap: options.Overlap = None,
    cut: options.Cut = False,
    modality: Annotated[Optional[str], typer.Option(help="image or text, where the source does not tell.")] = None,
    sample: Annotated[
        Optional[int], typer.Option(help="Items that are looked at, at most. Default: 1000, without labels 300.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The recipe file that is written.")] = Path("best.json"),
    heatmap: Annotated[
        Optional[Path], typer.Option(help="Draw layers x poolings as one picture: .png, .jpg or .webp.")
    ] = None,
    id_column: options.IdColumn = None,
    text_column: options.TextColumn = None,
    image_column: options.ImageColumn = None,
    batch_size: options.BatchSize = "auto",
    device: options.Device = "auto",
    threads: options.Threads = None,
    as_json: options.ReportAsJson = False,
) -> None:
    """Find the layers, pooling, and PCA or whitening that suit your data, and write them as a recipe.

    One pass over a sample keeps every layer with every pooling; then each, and pairs of the best layers, is scored on
    these arrays. A killed run goes on when the same command is run again.

    With labels, choosing is cross-validated over them: what it is worth beside the default is told by items that had
    no part in it, with 95 % intervals, and the default is kept where that is nothing. Projections are fitted on items
    that are not asked.

    Without labels, tasks are made of the items themselves: projections are fitted on one third of the sample, the
    choice is made on another, and its worth is told by the last. Where the tasks do not agree, no recipe is written.
    """
    from embedsearch.engine.tuner import tune as run

    progress = open_progress()
    try:
        tuned = run(
            source, labels,
            label_column=label_column, label_folders=label_folders, backbone=backbone, weights=weights,
            layers=layer, poolings=pooling, size=size, fit=fit, max_tokens=max_tokens, overlap=overlap,
            long_texts="cut" if cut else None, modality=modality, sample=sample, out=out, heatmap=heatmap,
            id_column=id_column, text_column=text_column, image_column=image_column,
            batch_size=options.auto_int("--batch-size", batch_size), device=device, threads=threads,
            progress=progress,
        )  # fmt: skip
    finally:
        progress.close()
    if as_json:
        print(json.dumps(tuned.to_dict(), ensure_ascii=False, indent=2, allow_nan=False))
        return
    print(tuned)
    if heatmap is not None:
        print(f"heatmap   {heatmap}")
    columns = {"--id-column": id_column, "--text-column": text_column, "--image-column": image_column}
    print(_next(tuned, out, [source, *(f"{name}={value}" for name, value in columns.items() if value)]))


def _next(tuned: Tuned, out: Path, named: list[str]) -> str:
    """named: the source and its columns, as a build takes them."""
    if tuned.out is not None:
        return f"recipe    {out}: {shlex.join(['embedsearch', 'build', *named, '--recipe', str(out)])}"
    told = "no recipe is written; label some items (50 help, several of each label) and run it with --labels FILE"
    return f"{told}\n{out} is an earlier one" if out.exists() else told
