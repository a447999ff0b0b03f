"""Recall and time under filters, against what was promised without one.

    python benchmarks/filters.py [--sets texts l2 ip] [--rows 0] [--recall 0.95] [--write docs/filters.md]

Two sets are built with a promise, in every approximate family: the text embeddings of `ann.py` (MiniLM over the glosses
of WordNet) under cosine, and 100,000 words of GloVe, with lengths of their own, under l2 and ip. 1,000 queries that
are not in the index ask for ten answers each, under conditions over three columns (see filter_sets.py): one drawn at
random, one that leaves a corner of the space, and the kind of a row, where only queries of other kinds ask. Exits with
1 when recall is more than .02 below the promise, or an answer is short.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from filter_sets import SETS, Condition, FilterSet
from machine import describe
from search_sets import MissingSourceError

import embedsearch as es
from embedsearch.errors import PromiseError

FAMILIES = ("graph", "ivf", "hnsw", "HNSW16,SQ8,RFlat")
K, SLACK = 10, 0.02
HEAD = """
recall@10 of {recall:g} promised without a filter; queries that are not in the index. `chance`: a condition over a
random column. `topic`: one that leaves a corner of the space. `kind`: rows of some kinds, asked only by queries of
other kinds.
Short: answers with fewer than ten hits (or than the rows that are left). Milliseconds a query in a batch of all, and of
one alone, both with the reading of the condition. Refused: the build ended with an error, for the most thorough
search of the family finds less than was to be promised.

| set | family | condition | rows left | recall@10 | short | ms a query, batch | ms alone |
|---|---|---|---|---|---|---|---|
""".lstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--rows", type=int, default=0, help="only so many rows of a set; 0 for all")
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    printed = f"Printed by `benchmarks/filters.py` on {date.today().isoformat()}. {describe()}."
    told = f"# Recall under filters\n\n{printed}\n"
    lines, failed = [told, HEAD.format(recall=arguments.recall).rstrip()], []
    try:
        for line, problem in asked(arguments.sets, arguments.rows, arguments.recall):
            print(line, flush=True)
            lines.append(line)
            failed += [problem] if problem else []
    except MissingSourceError as missing:
        raise SystemExit(str(missing)) from missing
    if arguments.write:
        arguments.write.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if failed:
        raise SystemExit("missed: " + "; ".join(failed))


def asked(sets: list[str], most: int, recall: float) -> Iterator[tuple[str, str]]:
    """The lines of the table, and what is wrong with each."""
    for data in (SETS[name](most) for name in sets):
        for family in FAMILIES:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    index = es.build(
                        data.xb,
                        Path(folder) / "x",
                        metadata=data.columns,
                        index=family,
                        metric=data.metric,
                        recall=recall,
                    )
                except PromiseError as refusal:
                    found = str(refusal).partition("finds ")[2].partition(" ")[0]
                    yield f"| {data.name} | {family} | refused to promise it | {len(data.xb):,} | {found} | | | |", ""
                    continue
                for condition in data.conditions:
                    yield row(index, data, family, condition, recall)


def row(index: es.Index, data: FilterSet, family: str, condition: Condition, promised: float) -> tuple[str, str]:
    xq, where, allowed = data.xq[condition.asking], condition.where, condition.allowed
    left = int(allowed.sum())
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
    cost = data.cost[condition.asking]
    limit = np.partition(cost[:, allowed], k - 1, axis=1)[:, k - 1]
    limit += 1e-6 * np.abs(limit)
    short = sum(any(name is None for name in answer) for answer in ids)
    right = [
        np.mean([name is not None and allowed[int(name)] and cost[q, int(name)] <= limit[q] for name in answer])
        for q, answer in enumerate(ids)
    ]
    recall = float(np.mean(right))
    line = (
        f"| {data.name} | {family} | {condition.name} | {left:,} | {recall:.4f} | {short} | {batch_ms:.3f} | "
        f"{np.median(alone) * 1000:.2f} |"
    )
    about = f"{data.name}, {family}, {condition.name}, {left:,} rows"
    problem = f"recall {recall:.3f}: {about}" if recall < promised - SLACK else ""
    if ids.shape[1] != k or short:
        problem += f" {short} short answers: {about}"
    return line, problem


if __name__ == "__main__":
    main()
