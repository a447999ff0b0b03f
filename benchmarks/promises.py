"""Whether promises are kept: recall@10 promised, measured by the build, and found for queries of which it knew nothing.

    python benchmarks/promises.py [--rows 0] [--write docs/promises.md]

The texts and words of `ann.py`, in every approximate family, at three promises. "new queries" are 2,000 vectors that
were held out of the data before the build; "own row dropped" is what a build would have measured with rows of the
finished index as queries, each dropped from its own answers, as is usual elsewhere. Exits with 1 when new queries find
more than .01 less than was promised.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import date
from pathlib import Path

import faiss
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from machine import describe
from search_sets import MissingSourceError, load_set

import embedsearch as es
from embedsearch.errors import PromiseError

SETS = ("texts", "glove")
FAMILIES = ("graph", "ivf", "hnsw")
PROMISES = (0.9, 0.95, 0.99)
K, SLACK = 10, 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=0, help="only so many rows a set; 0 for all")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    lines = [
        "# Promises and what came of them",
        "",
        f"Printed by `benchmarks/promises.py` on {date.today().isoformat()}. {describe()}.",
        "",
        "recall@10. Measured: what the build found with rows that it held out, and the 95 % interval. New queries: "
        "2,000 vectors that the build has never seen. Own row dropped: 2,000 rows of the finished index as queries, "
        "each dropped from its own answers, at the same effort.",
        "",
        "| set | family | promised | measured | new queries | own row dropped |",
        "|---|---|---|---|---|---|",
    ]
    broken = []
    for name in SETS:
        try:
            data = load_set(name, arguments.rows or None)
        except MissingSourceError as missing:
            print(f"{name} is left out: {missing}")
            continue
        for family in FAMILIES:
            for promised in PROMISES:
                row, kept = one(data.xb, data.xq, family, promised)
                lines.append(f"| {name}, {len(data.xb):,} x {data.xb.shape[1]} | {family} | {promised} | {row} |")
                print(lines[-1], flush=True)
                broken += [] if kept else [f"{name}, {family}, {promised}"]
    if arguments.write:
        arguments.write.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if broken:
        raise SystemExit("broken: " + "; ".join(broken))


def one(xb: np.ndarray, xq: np.ndarray, family: str, promised: float) -> tuple[str, bool]:
    """One build: its columns of the table, and whether the promise is kept."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            index = es.build(xb, Path(folder) / "index", index=family, recall=promised)
        except PromiseError as refused:
            return f"refused: {str(refused).partition(';')[0]} | - | -", True
        measured = index.info()["index"]["tuned"]["measured"]
        new = share_found(index, xq, xb, None)
        own = np.random.default_rng(11).choice(len(xb), len(xq), replace=False)
        dropped = share_found(index, xb[own], xb, own)
    told = f"{measured['recall']:.4f} ({measured['low']:.4f} to {measured['high']:.4f})"
    return f"{told} | {new:.4f} | {dropped:.4f}", new >= promised - SLACK


def share_found(index: es.Index, xq: np.ndarray, xb: np.ndarray, own: np.ndarray | None) -> float:
    """recall@10 over queries xq; own: the row that each one is, which is no answer to it."""
    exact = faiss.IndexFlatIP(xb.shape[1])
    exact.add(xb)
    n_own = 0 if own is None else 1
    scores, truth = exact.search(xq, 4 * K + n_own)
    ids, _ = index.search_vectors(xq, k=K + n_own)
    shares = []
    for q, names in enumerate(ids):
        mine = -1 if own is None else int(own[q])
        found = [int(name) for name in names if name is not None and int(name) != mine][:K]
        others = truth[q] != mine
        limit = scores[q][others][K - 1] - 1e-6
        good = set(truth[q][others & (scores[q] >= limit)].tolist())
        shares.append(len(good & set(found)) / K)
    return float(np.mean(shares))


if __name__ == "__main__":
    main()
