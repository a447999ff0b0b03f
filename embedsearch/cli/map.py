"""`embedsearch map`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from embedsearch.cli import options
from embedsearch.cli.app import app
from embedsearch.cli.progress import open_progress
from embedsearch.errors import counted

_EXAMPLES = """
Examples:\n
  embedsearch map indexes/photos --out map.html\n
  embedsearch map indexes/photos --label-folders --out map.html\n
  embedsearch map indexes/goods --color price --where "stock > 0" --out map.html\n
  embedsearch map indexes/faq --method pca --sample 20000 --out map.html\n
"""


@app.command("map", epilog=_EXAMPLES)
def map_items(
    index: options.IndexFolder,
    out: Annotated[Path, typer.Option(help="FILE.html to write.")],
    color: Annotated[Optional[str], typer.Option(help="Metadata column that colours the points.")] = None,
    labels: Annotated[
        Optional[Path], typer.Option(help="FILE.csv, .tsv, .jsonl or .parquet with id,label: the label colours.")
    ] = None,
    label_folders: Annotated[
        bool, typer.Option("--label-folders", help="The folder that an id lies in colours: cat for cat/1.jpg.")
    ] = False,
    method: Annotated[str, typer.Option(help="umap, tsne or pca.")] = "umap",
    where: Annotated[Optional[str], typer.Option(help="SQL condition over the metadata; only such items.")] = None,
    sample: Annotated[Optional[int], typer.Option(help="At most so many items, drawn at random.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same map.")] = 0,
    as_json: options.ReportAsJson = False,
) -> None:
    """Draw the whole index as a plane of points, in one web page that needs nothing else.

    Near items lie near each other. Pictures and texts show under the pointer; legend, search, pan and zoom.
    """
    from embedsearch.engine.opening import open as open_index

    made = open_index(index).map(
        out, color=color, labels=labels, label_folders=label_folders, method=method, where=where, sample=sample,
        seed=seed, progress=open_progress(),
    )  # fmt: skip
    if as_json:
        points = [{"id": item_id, "x": x, "y": y} for item_id, (x, y) in zip(made.ids, made.xy.tolist(), strict=True)]
        counts = {name: getattr(made, name) for name in ("n_items", "n_thumbnails", "n_unreadable", "n_over_limit")}
        print(json.dumps({"path": str(out), "method": method, **counts, "points": points}, ensure_ascii=False))
        return
    print(f"{counted(len(made.ids), 'item')} of {made.n_items:,} by {method}, drawn in {out}")
    if made.n_unreadable:
        print(f"{counted(made.n_unreadable, 'picture')} cannot be read any more: points without a thumbnail")
    if made.n_over_limit:
        print(f"{counted(made.n_over_limit, 'point')} without a thumbnail: those of all would make the page too large")
