"""Recall and time under filters, against what was promised without one.

    python benchmarks/filters.py [--rows 0] [--recall 0.95] [--write docs/filters.md]

The text embeddings of `ann.py` (MiniLM over the glosses of WordNet) are built with a promise, in every approximate
family, with two columns: `chance`, drawn at random, and `topic`, the place of a row in the order of its likeness to one
row, so that a condition over it leaves one corner of the space, in which few queries lie. 1,000 queries that are not
in the index ask for ten answers each under conditions that leave 50 %, 10 %, 1 %, 0.1 % and 3 rows. Exits with 1 when
recall is more than .02 below the promise, or an answer is short.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from machine import describe
from search_sets import MissingSourceError, load_set

import embedsearch as es

FAMILIES = ("graph", "ivf", "hnsw")
N_QUERIES, K, SLACK = 1000, 10, 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=0, help="only so many rows; 0 for all")
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    try:
        data = load_set("texts", arguments.rows or None)
    except MissingSourceError as missing:
        raise SystemExit(str(missing)) from missing
    xb, xq = data.xb, data.xq[:N_QUERIES]
    n = len(xb)
    order = np.argsort(-(xb @ xb[0]), kind="stable")
    topic = np.empty(n, np.int64)
    topic[order] = np.arange(n)
    columns = {"chance": np.random.default_rng(7).permutation(n), "topic": topic}
    scores = xq @ xb.T
    lines = [
        "# Recall under filters",
        "",
        f"Printed by `benchmarks/filters.py` on {date.today().isoformat()}. {describe()}.",
        "",
        f"{n:,} x {xb.shape[1]} text embeddings, recall@10 of {arguments.recall:g} promised without a filter; "
        f"{len(xq):,} queries that are not in the index. `chance` is a condition over a random column, `topic` one "
        "that leaves a corner of the space. Short: answers with fewer than ten hits (or than the rows that are left). "
        "Milliseconds a query in a batch of all, and of one alone, both with the reading of the condition.",
        "",
        "| family | condition | rows left | recall@10 | short | ms a query, batch | ms alone |",
        "|---|---|---|---|---|---|---|",
    ]
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for family in FAMILIES:
            index = es.build(xb, Path(folder) / family, metadata=columns, index=family, recall=arguments.recall)
            for column in (None, *columns):
                for left in [n] if column is None else [n // 2, n // 10, n // 100, n // 1000, 3]:
                    row, problem = asked(index, xq, scores, column, columns, left, arguments.recall)
                    lines.append(f"| {family} | {row}")
                    print(lines[-1], flush=True)
                    failed += [f"{family}: {problem}"] if problem else []
    text = "\n".join(lines) + "\n"
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")
    if failed:
        raise SystemExit("missed: " + "; ".join(failed))


def asked(
    index: es.Index,
    xq: np.ndarray,
    scores: np.ndarray,
    column: str | None,
    columns: dict[str, np.ndarray],
    left: int,
    promised: float,
) -> tuple[str, str]:
    """One line of the table, and what is wrong with it."""
    where = None if column is None else f"{column} < {left}"
    allowed = np.ones(len(index), bool) if column is None else columns[column] < left
    k = min(K, left)
    index.search_vectors(xq[:50], k=K, where=where)
    began = time.perf_counter()
    ids, _ = index.search_vectors(xq, k=K, where=where)
    batch_ms = (time.perf_counter() - began) * 1000 / len(xq)
    alone = []
    for query in xq[:50]:
        began = time.perf_counter()
        index.search_vectors(query, k=K, where=where)
        alone.append(time.perf_counter() - began)
    limit = np.sort(scores[:, allowed], axis=1)[:, -k] - 1e-6
    short = sum(any(name is None for name in row) for row in ids)
    good = [
        np.mean([name is not None and allowed[int(name)] and scores[q, int(name)] >= limit[q] for name in row])
        for q, row in enumerate(ids)
    ]
    recall = float(np.mean(good))
    name = "none" if column is None else column
    line = f"{name} | {left:,} | {recall:.4f} | {short} | {batch_ms:.3f} | {np.median(alone) * 1000:.2f} |"
    problem = f"recall {recall:.3f} under {name}, {left:,} rows" if recall < promised - SLACK else ""
    if ids.shape[1] != k or short:
        problem += f"; {short} short answers under {name}, {left:,} rows"
    return line, problem


if __name__ == "__main__":
    main()
