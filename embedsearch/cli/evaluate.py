"""`embedsearch evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from embedsearch.cli import options
from embedsearch.cli.app import app
from embedsearch.cli.progress import open_progress
from embedsearch.errors import UsageError

if TYPE_CHECKING:
    from embedsearch.evaluate.judged import Judged

_SHOWN = 20  # as many as a sheet has rows

_EXAMPLES = """
Examples:\n
  embedsearch evaluate indexes/photos --labels labels.csv\n
  embedsearch evaluate indexes/photos --label-folders --per-class --confusions worst.png\n
  embedsearch evaluate indexes/goods --label-column brand -k 20 --json\n
  embedsearch evaluate indexes/photos --label-folders --queries new-photos/\n
  embedsearch evaluate indexes/photos --label-folders --expand 3\n
  embedsearch evaluate indexes/papers --labels qrels.csv --queries questions.csv\n
  embedsearch evaluate indexes/photos --labels labels.csv --query-where "part = 'val'" --where "part = 'test'"\n
"""


@app.command(epilog=_EXAMPLES)
def evaluate(
    index: options.IndexFolder,
    labels: Annotated[
        Optional[Path],
        typer.Option(
            help="FILE.csv, .tsv, .jsonl or .parquet with the columns id,label (the same label is relevant), or "
            "query,id,grade (a grade above 0 is relevant)."
        ),
    ] = None,
    label_column: Annotated[Optional[str], typer.Option(help="A metadata column: the same value is relevant.")] = None,
    label_folders: Annotated[
        bool, typer.Option("--label-folders", help="The folder that an id lies in is its label: cat for cat/1.jpg.")
    ] = False,
    queries: Annotated[
        Optional[str],
        typer.Option(
            help="A source that is asked with, encoded as the index was, or the folder of another index of the same "
            "recipe. Default: its own items, each left out of its own answers."
        ),
    ] = None,
    query_where: Annotated[
        Optional[str], typer.Option(help="SQL condition over the metadata of items that are asked with.")
    ] = None,
    where: Annotated[Optional[str], typer.Option(help="SQL condition that answers must meet.")] = None,
    k: Annotated[int, typer.Option("-k", help="Of recall@k and nDCG@k.")] = 10,
    sample: Annotated[str, typer.Option(help="Most queries that are asked, drawn with a seed, or all.")] = "10000",
    expand: options.Expand = 0,
    per_class: Annotated[bool, typer.Option("--per-class", help="A line for each label, the worst first.")] = False,
    confusions: Annotated[
        Optional[Path], typer.Option(help="Draw the worst first answers as one picture: .png, .jpg or .webp.")
    ] = None,
    id_column: options.IdColumn = None,
    text_column: options.TextColumn = None,
    image_column: options.ImageColumn = None,
    weights: options.MovedWeights = None,
    backbone: options.MovedBackbone = None,
    preprocess: options.MovedPreprocess = None,
    as_json: options.ReportAsJson = False,
) -> None:
    """Judge an index by what is known to be right: P@1, recall@k, mAP, nDCG@k and MRR, with 95 % intervals.

    "exact" judges the vectors: all items ranked by exact scores, ties for the worse. "found" judges what the index
    itself finds, as a user sees it; "lost" is the difference.
    """
    from embedsearch.engine.opening import open as open_index

    opened = open_index(index, weights=weights, backbone=backbone, preprocess=preprocess)
    progress = open_progress()
    try:
        judged = opened.evaluate(
            labels,
            label_column=label_column,
            label_folders=label_folders,
            queries=queries,
            query_where=query_where,
            where=where,
            k=k,
            sample=_most(sample),
            expand=expand,
            confusions=confusions,
            id_column=id_column,
            text_column=text_column,
            image_column=image_column,
            progress=progress,
        )
    finally:
        progress.close()
    if as_json:
        print(json.dumps(judged.to_dict(), ensure_ascii=False, indent=2))
        return
    print(judged)
    if per_class:
        print("\n" + "\n".join(_class_lines(judged)))
    if confusions is not None:
        print(f"\n{_confused(judged)} drawn in {confusions}")


def _most(sample: str) -> int | None:
    if sample == "all":
        return None
    if not (sample.isascii() and sample.isdigit() and int(sample)):
        raise UsageError(f"--sample is {sample!r}; it must be a whole number above 0, or all")
    return int(sample)


def _class_lines(judged: Judged) -> list[str]:
    from embedsearch.presenters.plain import aligned

    if not judged.classes:
        return ["  (pairs have no labels, so there are no classes)"]
    names = list(judged.classes[0].means)
    rows = [["label", "items", "queries", *names, "first answer most often wrong as"]]
    rows += [
        [each.label, f"{each.n_items:,}", f"{each.n_queries:,}", *(f"{each.means[name]:.4f}" for name in names),
         f"{each.taken_for} ({each.n_taken} x)" if each.n_taken else ""]
        for each in judged.classes
    ]  # fmt: skip
    return aligned(rows)


def _confused(judged: Judged) -> str:
    n = len(judged.confusions)
    if not n:
        return "no first answer is wrong:"
    return f"{min(n, _SHOWN)} of {n:,} confusions" if n > _SHOWN else f"{n} confusion{'' if n == 1 else 's'}"
