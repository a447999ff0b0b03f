"""How an index grows: built and searched at 100,000, 1,000,000 and 10,000,000 vectors of 128 dimensions.

    python benchmarks/scale.py [--sizes 100000 1000000] [--index ivf] [--recall 0.95] [--write docs/scale.md]

Seeded vectors (scale_data.py says how they are made; the report compares how hard they are with real ones) lie in a
.npy file.
Each size is built by `build_with_report(path, folder, index=..., recall=...)` and searched by `open` and
`search_vectors`, each in a process of its own, whose peak resident memory counts the store, the ids and the pages of
mapped files. Queries are held out; recall@10 is against exact search over the file. Files are kept in
build/benchmark-data/scale: 5 GB for the vectors of 10,000,000, 14 GB for their index.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from data import CACHE
from machine import describe
from scale_data import DIM, Mixture, exact_neighbours, local_dimension
from scale_report import Size, draw, table

SIZES = (100_000, 1_000_000, 10_000_000)
N_QUERIES, K, ROUNDS = 2000, 10, 5
LIMIT_MIB = 12 * 1024
_FOLDER = CACHE / "scale"
_HARDNESS_ROWS, _HARDNESS_QUERIES = 100_000, 500


def main() -> None:
    arguments = _arguments()
    _FOLDER.mkdir(parents=True, exist_ok=True)
    mixture = Mixture()
    queries = _FOLDER / "queries.npy"
    np.save(queries, mixture.queries(N_QUERIES))
    sizes = []
    for n in arguments.sizes:
        vectors, truth = _vectors(mixture, n), _FOLDER / f"{n}-truth.npy"
        if not truth.exists():
            _say(f"{n:,}: exact answers to {N_QUERIES:,} queries")
            np.save(truth, exact_neighbours(np.load(vectors, mmap_mode="r"), np.load(queries), K))
        out = _FOLDER / f"{n}-{arguments.index}"
        shutil.rmtree(out, ignore_errors=True)
        _say(f"{n:,}: build")
        built = _child("build", vectors, out, arguments.index, arguments.recall)
        _say(f"{n:,}: search")
        searched = _child("search", queries, truth, out, ROUNDS)
        sizes.append(Size(n, built, searched))
        print(table(sizes)[1 + len(sizes)], flush=True)
        if not arguments.keep:
            shutil.rmtree(out)
    lines = [
        "# Growth",
        "",
        f"Printed by `benchmarks/scale.py` on {date.today().isoformat()}. {describe()}.",
        "",
        f"Vectors of {DIM} dimensions, `index={arguments.index!r}`, `recall={arguments.recall}`; memory is the peak of "
        "the whole process with store, ids and mapped files, disk all of the index folder.",
        "",
        *table(sizes),
        "",
        *_hardness(mixture, arguments.sizes),
    ]
    if arguments.write and find_spec("matplotlib") is not None:
        picture = arguments.write.with_suffix(".svg")
        draw(sizes, picture)
        lines += [f"![Growth from {min(arguments.sizes):,} to {max(arguments.sizes):,} vectors]({picture.name})", ""]
    print("\n".join(lines))
    if arguments.write:
        arguments.write.write_text("\n".join(lines))
    if arguments.json:
        arguments.json.write_text(json.dumps([size.to_dict() for size in sizes], indent=1))
    missed = [f"{size.n:,}: {what}" for size in sizes for what in size.missed(arguments.recall, LIMIT_MIB)]
    if missed:
        sys.exit("missed: " + "; ".join(missed))


def _vectors(mixture: Mixture, n: int) -> Path:
    path = _FOLDER / f"{n}.npy"
    if not path.exists():
        _say(f"{n:,}: making the vectors")
        mixture.write(path, n)
    return path


def _child(*arguments: object) -> dict[str, object]:
    command = [sys.executable, str(Path(__file__).with_name("scale_child.py")), *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _hardness(mixture: Mixture, sizes: list[int]) -> list[str]:
    """How hard the vectors are beside real ones."""
    from search_sets import MissingSourceError, load_set

    queries = mixture.queries(_HARDNESS_QUERIES)
    made = [("these vectors", np.load(_vectors(mixture, n), mmap_mode="r"), queries) for n in sizes]
    real = []
    for name in ("texts", "glove"):
        try:
            found = load_set(name, _HARDNESS_ROWS)
        except MissingSourceError as missing:
            _say(f"{name} is not compared: {missing}")
            continue
        real.append((found.about, found.xb, found.xq[:_HARDNESS_QUERIES]))
    lines = [
        "How hard they are: the local intrinsic dimension (maximum likelihood over 100 neighbours, the median; higher "
        f"is harder), and, at {_HARDNESS_ROWS:,} rows, the share of all vectors whose codes an ivf index compares to "
        "find 0.95 of the true ten.",
        "",
        "| vectors | rows | dimensions | local dimension | compared for recall 0.95 |",
        "|---|---|---|---|---|",
    ]
    for about, x, xq in [*made, *real]:
        share = f"{_share_compared(np.array(x), xq):.1%}" if len(x) == _HARDNESS_ROWS else ""
        lines.append(f"| {about} | {len(x):,} | {x.shape[1]} | {local_dimension(x, xq):.1f} | {share} |")
    return [*lines, ""]


def _share_compared(x: np.ndarray, xq: np.ndarray) -> float:
    from embedsearch.index.ivf.index import IVFIndex
    from embedsearch.types import Metric

    index = IVFIndex.create(x.shape[1], Metric.COSINE, IVFIndex.plan(len(x), x.shape[1], 0.95))
    index.train(x[:: max(len(x) // index.training_rows, 1)])
    index.add(x)
    truth = exact_neighbours(x, xq, K)
    recalls, shares = [], []
    for nprobe in np.unique(np.geomspace(1, index.nlist, 24).astype(int)):
        _, rows = index.search(xq, K, {"nprobe": int(nprobe), "k_factor": 32})
        recalls.append(np.mean([len(set(a) & set(b)) / K for a, b in zip(rows.tolist(), truth.tolist(), strict=True)]))
        shares.append(nprobe / index.nlist)
    return float(np.exp(np.interp(0.95, recalls, np.log(shares))))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--index", default="ivf", help="a family or a FAISS factory string")
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--keep", action="store_true", help="leave the indexes there")
    parser.add_argument(
        "--write", type=Path, help="also write the table to this Markdown file, and a picture beside it"
    )
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
