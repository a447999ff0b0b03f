"""`embedsearch delete`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Optional

import typer

from embedsearch.cli import options
from embedsearch.cli.app import app
from embedsearch.cli.told import advised

_EXAMPLES = """
Examples:\n
  embedsearch delete indexes/photos cat.jpg holiday/beach.jpg\n
  embedsearch delete indexes/goods --where "stock = 0 AND day < date '2024-06-01'"\n
  embedsearch delete indexes/goods - < sold-out.txt\n
  embedsearch delete indexes/photos --where "added_from LIKE '%/new-photos'"\n
"""


@app.command(epilog=_EXAMPLES)
def delete(
    index: options.IndexFolder,
    ids: Annotated[
        Optional[list[str]],
        typer.Argument(
            help="Ids of items, or of whole texts in an index of chunks; - reads one a line from stdin.",
            metavar="[ID]...",
        ),
    ] = None,
    where: Annotated[
        Optional[str], typer.Option(help="SQL condition over the metadata; items that meet it go as well.")
    ] = None,
    as_json: options.ReportAsJson = False,
) -> None:
    """Delete items from an index, by id, by a condition, or both.

    They are gone from every answer at once. An id that is not there is an error, and nothing is deleted then.
    The source is not touched: a later build brings back what it still has.
    """
    from embedsearch.pipeline.change.delete import run_delete

    report = run_delete(index, options.ids_with_stdin(ids or []), where)
    if as_json:
        body = {**asdict(report), "path": str(index)}
        print(json.dumps({name: value for name, value in body.items() if name != "root"}, ensure_ascii=False))
        return
    were = "item" if report.n_deleted == 1 else "items"
    print(f"{report.n_deleted:,} {were} deleted, {index} holds {report.n_items:,}")
    for line in advised(index, report.advice):
        print(line)
