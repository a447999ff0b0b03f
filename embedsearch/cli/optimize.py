"""`embedsearch optimize`."""

from __future__ import annotations

import json
from dataclasses import asdict

from embedsearch.cli import options
from embedsearch.cli.app import app
from embedsearch.cli.progress import open_progress
from embedsearch.errors import counted

_EXAMPLES = """
Examples:\n
  embedsearch optimize indexes/photos\n
  embedsearch optimize indexes/photos --recall 0.99\n
  embedsearch optimize indexes/photos --json\n
"""


@app.command(epilog=_EXAMPLES)
def optimize(
    index: options.IndexFolder,
    kind: options.IndexKind = None,
    recall: options.Recall = None,
    memory: options.Memory = None,
    latency_ms: options.LatencyMs = None,
    as_json: options.ReportAsJson = False,
) -> None:
    """Fold what was added and deleted into a fresh index file.

    The store is compacted, and the index built anew from the stored vectors: nothing is extracted again. It keeps what
    was promised at the build, and its family is chosen for the size of now, unless one was asked for; what is
    promised here takes the place of that. Open readers go on with what they have.
    """
    from embedsearch.index.choose import changed_request
    from embedsearch.pipeline.change.optimize import run_optimize

    progress = open_progress()
    try:
        report = run_optimize(index, progress, changed_request(kind, recall, memory, latency_ms))
    finally:
        progress.close()
    if as_json:
        body = {**asdict(report), "path": str(index)}
        print(json.dumps({name: value for name, value in body.items() if name != "root"}, ensure_ascii=False))
    elif report.up_to_date:
        print(f"{index} has nothing to fold in: nothing was added or deleted since its index was built")
    else:
        print(f"{index} holds {counted(report.n_items, 'item')} in a fresh index: {report.family} ({report.reason})")
        pieces = f", {report.n_pieces:,} pieces of the store made one" if report.n_pieces > 1 else ""
        dropped = counted(report.n_dropped, "dead place")
        print(f"{counted(report.n_folded, 'item')} folded in, {dropped} dropped{pieces}")
