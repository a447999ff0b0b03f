"""Time and memory of `duplicates` over more and more texts, comparing all pairs and asking the index, beside
`community_detection` of sentence-transformers.

    python benchmarks/duplicates.py [--sizes 10000 40000 117000] [--write docs/duplicates.md]

Vectors: the glosses of WordNet by MiniLM that `ann.py` made, duplicates at a cosine of 0.9. Each run is a process of
its own; memory is the most that it held beyond what it held before, with the index open. Exits with 1 when memory grows
faster than the items.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

import embedsearch as es

sys.path.insert(0, str(Path(__file__).parent))
from machine import describe
from search_sets import load_set

LEAST = 0.9
_STATUS = """
import json, sys, time
from pathlib import Path
def peak():
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024
"""
_OURS = (
    _STATUS
    + """
import embedsearch as es
index = es.open(sys.argv[1])
list(index.similar_many(index.ids[:100], k=10))  # opened and warm
before, began = peak(), time.perf_counter()
found = index.duplicates(min_score=float(sys.argv[2]), exact=sys.argv[3] == "exact")
dropped = sorted(found.ids_to_drop())
told = {"seconds": time.perf_counter() - began, "mib": peak() - before, "groups": len(found)}
print(json.dumps({**told, "grouped": found.n_grouped, "dropped": dropped}))
"""
)
_THEIRS = (
    _STATUS
    + """
import numpy as np, torch
from sentence_transformers.util import community_detection
x = torch.from_numpy(np.load(sys.argv[1]))
before, began = peak(), time.perf_counter()
found = community_detection(x, threshold=float(sys.argv[2]), min_community_size=2)
told = {"seconds": time.perf_counter() - began, "mib": peak() - before, "groups": len(found)}
print(json.dumps({**told, "grouped": sum(map(len, found))}))
"""
)


def run(code: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def rows_of(x: np.ndarray, folder: Path) -> dict[str, dict[str, Any]]:
    """By name what each way found over the vectors x."""
    np.save(folder / "x.npy", x)
    index = folder / "index"
    es.build(x, index, recall=0.95)
    found = {
        "all pairs": run(_OURS, str(index), str(LEAST), "exact"),
        "asking the index": run(_OURS, str(index), str(LEAST), "approximate"),
    }
    try:
        import sentence_transformers  # noqa: F401
    except ImportError:
        return found
    return {**found, "sentence-transformers, community_detection": run(_THEIRS, str(folder / "x.npy"), str(LEAST))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 40_000, 117_000])
    parser.add_argument("--write", type=Path, help="also write the table to this Markdown file")
    arguments = parser.parse_args()
    machine, data = describe(), load_set("texts")
    x = np.concatenate([data.xb, data.xq])
    x = x[np.random.default_rng(0).permutation(len(x))]
    lines = [
        "# Time and memory of finding duplicates",
        "",
        f"Printed by `benchmarks/duplicates.py`: {data.about}, cosine {LEAST} or more. "
        "Memory is what was held at the most beyond the open index (for sentence-transformers, the vectors); "
        "all scores at once would take the last column.",
        "",
        "| texts | | seconds | memory, MiB | groups | in groups | of all pairs' duplicates | N x N scores, MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    memory: dict[str, list[tuple[int, float]]] = {}
    for size in arguments.sizes:
        some = np.ascontiguousarray(x[:size])
        with tempfile.TemporaryDirectory() as scratch:
            found = rows_of(some, Path(scratch))
        exact = set(found["all pairs"]["dropped"])
        for name, each in found.items():
            memory.setdefault(name, []).append((len(some), each["mib"]))
            share = f"{len(exact & set(each['dropped'])) / max(len(exact), 1):.3f}" if "dropped" in each else ""
            lines.append(
                f"| {len(some):,} | {name} | {each['seconds']:.1f} | {each['mib']:,.0f} | {each['groups']:,} | "
                f"{each['grouped']:,} | {share} | {4 * len(some) ** 2 / 2**20:,.0f} |"
            )
            print(lines[-1], flush=True)
    lines += ["", f"{date.today().isoformat()}. {machine}.", ""]
    print("\n".join(lines))
    if arguments.write:
        arguments.write.write_text("\n".join(lines), encoding="utf-8")
    for name in ("all pairs", "asking the index"):
        (n_few, few), (n_many, many) = memory[name][0], memory[name][-1]
        if many > max(few, 100) * n_many / n_few:
            sys.exit(f"missed: {name} holds {many:,.0f} MiB for {n_many:,} items and {few:,.0f} for {n_few:,}")


if __name__ == "__main__":
    main()
