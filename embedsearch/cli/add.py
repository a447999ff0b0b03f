"""`embedsearch add`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedsearch.cli import options
from embedsearch.cli.app import app
from embedsearch.cli.progress import open_progress
from embedsearch.cli.told import advised, kept_as, left_out
from embedsearch.errors import counted

if TYPE_CHECKING:
    from embedsearch.pipeline.change.add import AddReport

_EXAMPLES = """
Examples:\n
  embedsearch add indexes/photos new-photos/\n
  embedsearch add indexes/photos cat.jpg\n
  embedsearch add indexes/goods today.csv --id-column sku --strict\n
  embedsearch add indexes/vectors more.npy --ids more-ids.txt --json\n
  embedsearch add indexes/faq more.txt --id-prefix more-\n
"""


@app.command(epilog=_EXAMPLES)
def add(
    index: options.IndexFolder,
    source: Annotated[str, typer.Argument(help="Whatever `embedsearch build` takes for such an index.")],
    ids: options.Ids = None,
    id_prefix: options.IdPrefix = None,
    metadata: options.MetadataFile = None,
    id_column: options.IdColumn = None,
    text_column: options.TextColumn = None,
    image_column: options.ImageColumn = None,
    weights: options.MovedWeights = None,
    backbone: options.MovedBackbone = None,
    preprocess: options.MovedPreprocess = None,
    batch_size: options.BatchSize = "auto",
    device: options.Device = "auto",
    threads: options.Threads = None,
    strict: options.Strict = False,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Extract anew what an interrupted add of this source has extracted."),
    ] = False,
    as_json: options.ReportAsJson = False,
) -> None:
    """Add to an index: new ids are added, known ones replaced where they have changed.

    Network, layer, pooling and all else come from the index. What is added is found at once. Nothing that the
    index holds goes away because the source lacks it. An interrupted add goes on where it was when the same
    command is run again; until it ends, the index answers as before.
    """
    from embedsearch.artifact import read_manifest
    from embedsearch.engine.changing import add as add_to
    from embedsearch.engine.changing import encoder_of
    from embedsearch.engine.elsewhere import Elsewhere
    from embedsearch.engine.inputs import Beside
    from embedsearch.sources import Columns

    manifest = read_manifest(index)
    moved = Elsewhere(weights, backbone, preprocess)
    run = {"batch_size": options.auto_int("--batch-size", batch_size), "device": device, "threads": threads}
    progress = open_progress()
    try:
        report = add_to(
            index,
            manifest,
            source,
            Beside(ids, metadata, Columns(id_column, text_column, image_column), id_prefix),
            lambda: encoder_of(index, manifest, moved, **run),
            restart=restart,
            progress=progress,
        )
    finally:
        progress.close()
    if as_json:
        body = {**asdict(report), "path": str(index), "up_to_date": report.up_to_date}
        print(json.dumps({name: value for name, value in body.items() if name != "root"}, ensure_ascii=False))
    else:
        for line in _told(report, index):
            print(line)
    if strict and report.n_skipped:
        raise typer.Exit(3)


def _told(report: AddReport, index: Path) -> list[str]:
    if report.up_to_date:
        lines = [f"{index} holds all of it already: {counted(report.n_items, 'item')}"]
    else:
        about = [f"{report.n_new:,} added"] if report.n_new else []
        about += [f"{report.n_replaced:,} replaced"] if report.n_replaced else []
        about += [f"{report.n_refreshed:,} brought up to date, with the same content"] if report.n_refreshed else []
        about += [f"{report.n_known:,} unchanged"] if report.n_known else []
        lines = [f"{index} holds {counted(report.n_items, 'item')} ({', '.join(about)})"]
    return [
        *lines,
        *kept_as(report.renamed),
        *left_out(index, report.n_skipped, report.reasons),
        *advised(index, report.advice),
    ]
