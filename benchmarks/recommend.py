"""Recommending: what every strategy and blend finds, and how fast.

    python benchmarks/recommend.py [--parts quality speed] [--rounds 9] [--write docs/recommend-measured.md]

Quality is measured on MovieLens ml-latest-small when it lies in ../shared/data, and wants implicit (`pip install -e
'.[bench]'`): texts through MiniLM, encoded once and kept in build/benchmark-data, and factors of implicit's ALS.
Settings, strategies and weights are chosen on a validation part of what is known; only the table
looks at what is held out.
Speed wants no data. Exits with 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from machine import describe
from recommend_data import films
from recommend_quality import quality
from recommend_speed import speed
from search_sets import MissingSourceError

PARTS = ("quality", "speed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=9, help="of the speeds")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*BLAS.*")  # it is limited where implicit runs
    lines = [
        "# Recommendations, measured",
        "",
        f"Printed by `benchmarks/recommend.py` on {date.today().isoformat()}. {describe()}; implicit "
        f"{_version('implicit')}.",
        "",
    ]
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if "speed" in arguments.parts:
            told, failed = speed(folder, arguments.rounds, print)
            lines += [*told, ""]
            missed += failed
        if "quality" in arguments.parts:
            try:
                if find_spec("implicit") is None:
                    raise MissingSourceError("pip install implicit")
                data = films()
            except MissingSourceError as missing:
                print(f"quality is left out: {missing}")
            else:
                told, failed = quality(data, folder, print)
                lines += [*told, ""]
                missed += failed
    text = "\n".join(lines)
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")
    if missed:
        raise SystemExit("missed: " + "; ".join(missed))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "is not installed"


if __name__ == "__main__":
    main()
