"""Peak memory of a build over more and more inputs: it must not grow with their number.

    python benchmarks/memory.py [--write docs/memory.md]

Pictures are 28 x 28 PNGs through the first block of VGG16 at 32 px, texts short lines through MiniLM cut at
8 tokens: little work an item, so that many items can be tried. The index itself is reported apart, since it
is the one thing that grows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = (4_000, 20_000, 70_000)
_CHILD = """
import json, resource, sys
from embedsearch.engine.building import build_with_report
import embedsearch as es
build_with_report(sys.argv[1], sys.argv[2], **json.loads(sys.argv[3]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"peak": peak, "index": es.open(sys.argv[2]).info()["index_bytes"]}))
"""


def pictures(folder: Path, n: int) -> None:
    rng = np.random.default_rng(0)
    for i in range(n):
        part = folder / f"{i // 1000:03d}"
        part.mkdir(exist_ok=True, parents=True)
        Image.fromarray(rng.integers(0, 255, (28, 28), dtype=np.uint8)).save(part / f"{i:06d}.png")


def texts(path: Path, n: int) -> None:
    words = ["card", "bank", "fee", "lost", "top", "money", "account", "cash", "open", "close", "where", "when", "how"]
    rng = np.random.default_rng(0)
    path.write_text("".join(" ".join(rng.choice(words, 5)) + f" {i}\n" for i in range(n)))


def peak(source: Path, out: Path, options: dict[str, object]) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(source), str(out), json.dumps(options)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="also write the table to this Markdown file")
    arguments = parser.parse_args()
    lines = [
        "# Memory of a build",
        "",
        "Printed by `benchmarks/memory.py`: peak resident memory of the whole process, and the size of the index that "
        "it holds at the end, in MiB.",
        "",
        "| source | items | peak | index | peak without index |",
        "|---|---|---|---|---|",
    ]
    runs = [
        ("pictures", {"weights": "packaged", "size": 32, "layer": "features.4", "batch_size": 64}),
        ("texts", {"max_tokens": 8, "batch_size": 256, "layer": "encoder.layer.0"}),
    ]
    with tempfile.TemporaryDirectory() as scratch:
        for kind, options in runs:
            for n in SIZES:
                source = Path(scratch) / f"{kind}{n}{'' if kind == 'pictures' else '.txt'}"
                (pictures if kind == "pictures" else texts)(source, n)
                found = peak(source, Path(scratch) / f"index-{kind}{n}", options)
                mib = {name: value / 2**20 for name, value in found.items()}
                lines.append(
                    f"| {kind} | {n:,} | {mib['peak']:,.0f} | {mib['index']:,.0f} | {mib['peak'] - mib['index']:,.0f} |"
                )
                print(lines[-1], flush=True)
    lines.append("")
    print("\n".join(lines))
    if arguments.write:
        arguments.write.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
