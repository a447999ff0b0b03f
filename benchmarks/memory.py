"""Peak memory of a build over more and more inputs: it must not grow with their number.

    python benchmarks/memory.py [--only pictures|texts] [--write docs/memory.md]

Pictures are the 28 x 28 ones of Fashion-MNIST (Debian's dataset-fashion-mnist, else noise) as PNG through the first
block of VGG16 at 32 px, texts short lines through MiniLM cut at 8 tokens: little work an item, so that many items can
be tried. The index itself is reported apart, since it is the one thing that grows. Exits with 1 when 70,000 pictures
take more than 300 MB more than 2,000, the index counted.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = (2_000, 20_000, 70_000)
MOST_GROWTH = 300_000_000  # bytes, of pictures
FASHION = Path("/usr/share/datasets/fashion-mnist")
_CHILD = """
import json, resource, sys
from embedsearch.engine.building import build_with_report
import embedsearch as es
build_with_report(sys.argv[1], sys.argv[2], **json.loads(sys.argv[3]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"peak": peak, "index": es.open(sys.argv[2]).info()["index_bytes"]}))
"""


def pictures(folder: Path, n: int) -> None:
    for i, pixels in enumerate(grey_pictures()[:n]):
        part = folder / f"{i // 1000:03d}"
        part.mkdir(exist_ok=True, parents=True)
        Image.fromarray(pixels).save(part / f"{i:06d}.png")


def grey_pictures() -> np.ndarray:
    """70,000 of Fashion-MNIST, or noise where it is not installed: uint8 N x 28 x 28."""
    files = [FASHION / f"{part}-images-idx3-ubyte.gz" for part in ("train", "t10k")]
    if not all(path.exists() for path in files):
        return np.random.default_rng(0).integers(0, 255, (SIZES[-1], 28, 28), dtype=np.uint8)
    data = [np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8)[16:] for path in files]
    return np.concatenate(data).reshape(-1, 28, 28)


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
    parser.add_argument("--only", choices=("pictures", "texts"))
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
    peaks: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for kind, options in runs:
            if arguments.only not in (None, kind):
                continue
            for n in SIZES:
                source = Path(scratch) / f"{kind}{n}{'' if kind == 'pictures' else '.txt'}"
                (pictures if kind == "pictures" else texts)(source, n)
                found = peak(source, Path(scratch) / f"index-{kind}{n}", options)
                peaks.setdefault(kind, []).append(found["peak"])
                mib = {name: value / 2**20 for name, value in found.items()}
                lines.append(
                    f"| {kind} | {n:,} | {mib['peak']:,.0f} | {mib['index']:,.0f} | {mib['peak'] - mib['index']:,.0f} |"
                )
                print(lines[-1], flush=True)
    lines.append("")
    print("\n".join(lines))
    if arguments.write:
        arguments.write.write_text("\n".join(lines))
    grown = max(peaks.get("pictures", [0])) - peaks.get("pictures", [0])[0]
    if grown > MOST_GROWTH:
        sys.exit(f"70,000 pictures take {grown / 1e6:,.0f} MB more than 2,000; at most {MOST_GROWTH / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
