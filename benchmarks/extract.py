"""Extraction beside what is used elsewhere, interleaved in one run, and beside what the processor can do.

    python benchmarks/extract.py [--only images|texts|load|networks] [--rounds 5] [--write docs/extraction.md]

images: VGG16 to relu5_3 at 224 px from JPEG files to pooled vectors. texts: MiniLM over glosses of WordNet. load: the
same with a busy process on every core. networks: other networks of torchvision at their default layers. Each part is
kept in build/benchmark-data/extract when it is done; the page is written from the parts that are there, so they can be
run one by one. sentence-transformers is given fewer glosses a round than the rest (--glosses, --few). Exits with 1 when
a figure misses its target.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from data import CACHE, glosses
from extract_peers import (
    LAYER,
    SIZE,
    THREADS,
    Encodes,
    Img2VecLoop,
    OneByOne,
    OpenVINO,
    OursImages,
    OursTexts,
    SentenceTransformers,
    TorchvisionLoop,
    convolution_peak,
    gemm_peak,
    named_by,
    photographs,
    random_network,
)
from extract_report import page
from machine import describe

from embedsearch.engine.building import build_with_report
from embedsearch.errors import UsageError
from embedsearch.types import NoProgress

PARTS = ("images", "texts", "load", "networks")
FOLDER = CACHE / "extract"
GFLOP_A_PICTURE = 30.7  # VGG16 up to relu5_3 at 224 px, multiply-adds counted as two
TRIED_BATCHES = (32, 64, 128, 256)
FEW_ROUNDS = 3  # at most, of load and networks: they have no close figure to tell
NETWORKS = ("resnet50", "efficientnet_b0", "densenet121", "convnext_tiny", "vit_b_16")
_SPIN = "while True: pass"


class Extracting(NoProgress):
    """How long the stage `extracting` of a build takes: reading, decoding, network and store, not opening the network
    or making the index."""

    seconds = 0.0

    def stage(self, label: str, total: int | None = None) -> None:
        now = time.perf_counter()
        if label == "extracting":
            self._start = now
        elif self.seconds == 0.0:
            self.seconds = now - self._start


class OursBuild:
    """A whole build over the same inputs; its rate is that of its extraction."""

    def __init__(self, modality: str, precision: str = "auto") -> None:
        self.name = named_by("embedsearch, a build", precision)
        recipe = {"weights": "packaged", "size": SIZE, "layer": LAYER} if modality == "image" else {}
        self._options: dict[str, Any] = {**recipe, "index": "flat", "precision": precision}
        self.report = ""

    def seconds(self, items: Sequence[Any]) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / "source"
            if isinstance(items[0], Path):
                source.mkdir()
                for number, path in enumerate(items):
                    (source / f"{number:06d}{path.suffix}").symlink_to(path.resolve())
            else:
                source = source.with_suffix(".txt")
                source.write_text("\n".join(items))
            clock = Extracting()
            report = build_with_report(source, Path(scratch) / "index", progress=clock, **self._options)
            self.report = re.sub(r", weights: /[^,]*", "", report.encoder)  # a path here says nothing elsewhere
            return clock.seconds


def seconds_of(encoder: Any, items: Sequence[Any]) -> float:
    if isinstance(encoder, OursBuild):
        return encoder.seconds(items)
    start = time.perf_counter()
    encoder.encode(items)
    return time.perf_counter() - start


def rounds_of(
    encoders: Sequence[Any], items: Callable[[Any], Sequence[Any]], n: int, around: Callable[[], None] | None = None
) -> dict[str, list[float]]:
    """Items per second of each encoder in each round; whoever comes first changes. around: is called right before and
    right after the first encoder."""
    rates: dict[str, list[float]] = {encoder.name: [] for encoder in encoders}
    for turn in range(n):
        for place in range(len(encoders)):
            encoder = encoders[(turn + place) % len(encoders)]
            given = items(encoder)
            surrounded = around if encoder is encoders[0] and around is not None else _nothing
            surrounded()
            rates[encoder.name].append(len(given) / seconds_of(encoder, given))
            surrounded()
        told = ", ".join(f"{name} {values[-1]:.1f}" for name, values in rates.items())
        print(f"  round {turn + 1} of {n}: {told}", flush=True)
    return rates


def _nothing() -> None:
    pass


def least_cosine(found: np.ndarray, exact: np.ndarray) -> float:
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (found, exact)]
    return float((unit[0] * unit[1]).sum(axis=1).min())


def images(arguments: argparse.Namespace) -> dict[str, Any]:
    pictures = photographs(arguments.pictures)
    ours = OursImages()
    encoders: list[Any] = [ours, OursBuild("image"), TorchvisionLoop()]
    try:
        encoders.append(Img2VecLoop())
    except ImportError:
        print("img2vec_pytorch is left out: pip install img2vec_pytorch")
    few = pictures[: arguments.few_pictures]

    def items(encoder: Any) -> Sequence[Any]:
        return pictures if isinstance(encoder, (OursImages, OursBuild)) else few

    for encoder in encoders:
        seconds_of(encoder, pictures[:32])  # weights, threads and compiled code are there
    exact = OursImages("float32").encode(pictures)
    precision = ours.encoder.recipe.precision
    peaks: list[dict[str, float]] = []
    kinds = {"GEMM": gemm_peak, "convolution": convolution_peak}
    rates = rounds_of(
        encoders, items, arguments.rounds, lambda: peaks.append({k: peak(precision) for k, peak in kinds.items()})
    )
    return {
        "rates": rates,
        "peaks": of_rounds(peaks),
        "precision": precision,
        "gflop": GFLOP_A_PICTURE,
        "cosine": least_cosine(ours.encode(pictures), exact),
        "n": len(pictures),
        "n_few": len(few),
        "build": encoders[1].report,
    }


def of_rounds(peaks: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """The mean of what was measured before and after, for each round."""
    return [
        {k: (before[k] + after[k]) / 2 for k in before} for before, after in zip(peaks[0::2], peaks[1::2], strict=True)
    ]


def gflop_a_text(encoder: OursTexts, items: Sequence[str]) -> float:
    """Of the linear layers, multiply-adds counted as two."""
    backbone: Any = encoder.encoder.backbone
    n_tokens = sum(map(backbone.length, backbone.prepare(items)))
    blocks = backbone._module.encoder.layer.modules()
    n_weights = sum(part.in_features * part.out_features for part in blocks if hasattr(part, "in_features"))
    return 2.0 * n_weights * n_tokens / len(items) / 1e9


def best_batch(kind: Any, sample: Sequence[str]) -> Encodes:
    """The encoder of that kind with the fastest of TRIED_BATCHES on a sample, the better of two times each."""
    tried = [kind(batch) for batch in TRIED_BATCHES]
    taken = [min(seconds_of(encoder, sample) for _ in range(2)) for encoder in tried]
    return tried[int(np.argmin(taken))]


def texts(arguments: argparse.Namespace) -> dict[str, Any]:
    every = glosses()
    chosen = np.random.default_rng(0).permutation(len(every))[: arguments.glosses]
    given = [every[i] for i in chosen]
    few = given[: arguments.few]
    ours, default = OursTexts(), SentenceTransformers()
    encoders: list[Any] = [ours, OursBuild("text"), default]
    try:
        int8, built_in_int8 = OursTexts("int8"), OursBuild("text", "int8")
        encoders += [int8, built_in_int8]
    except UsageError as error:
        int8 = built_in_int8 = None
        print(f"int8 is left out: {error}")
    best = best_batch(SentenceTransformers, few[:500])
    if best.name != default.name:
        encoders.append(best)
    try:
        encoders.append(best_batch(OpenVINO, given[:2000]))
    except ImportError:
        print("OpenVINO is left out: pip install openvino")
    for encoder in encoders:
        seconds_of(encoder, given[:500])

    def items(encoder: Any) -> Sequence[Any]:
        return few if isinstance(encoder, SentenceTransformers) else given

    peaks: list[dict[str, float]] = []
    precision = ours.encoder.recipe.precision
    kinds = list(dict.fromkeys((precision, "float32")))
    rates = rounds_of(encoders, items, arguments.rounds, lambda: peaks.append({k: gemm_peak(k) for k in kinds}))
    exact = OursTexts("float32").encode(given)
    return {
        "rates": rates,
        "peaks": of_rounds(peaks),
        "gflop": gflop_a_text(ours, given),
        "precision": precision,
        "cosine": least_cosine(ours.encode(given), exact),
        "cosine_int8": None if int8 is None else least_cosine(int8.encode(given), exact),
        "build_int8": None if built_in_int8 is None else built_in_int8.report,
        "cosine_to_peer": least_cosine(exact[: len(few)], default.encode(few)),
        "default": default.name,
        "n": len(given),
        "n_few": len(few),
        "build": encoders[1].report,
    }


def load(arguments: argparse.Namespace) -> dict[str, Any]:
    """Rates without and with a process on every core that never pauses, in turns."""
    pictures = photographs(arguments.few_pictures)
    every = glosses()
    given = [every[i] for i in np.random.default_rng(0).permutation(len(every))[: arguments.few]]
    ours, peer = OursTexts(), SentenceTransformers()
    pairs: list[tuple[Encodes, Sequence[Any]]] = [
        (OursImages(), pictures),
        (OneByOne(OursImages()), pictures[:16]),
        (TorchvisionLoop(), pictures),
        (ours, given),
        (OneByOne(ours), given[:100]),
        (peer, given[:500]),
        (OneByOne(peer), given[:100]),
    ]
    names = [
        "embedsearch, pictures",
        "embedsearch, pictures one by one",
        "torchvision loop, pictures",
        "embedsearch, texts",
        "embedsearch, texts one by one",
        "sentence-transformers, texts",
        "sentence-transformers, texts one by one",
    ]
    rates: dict[str, dict[str, list[float]]] = {name: {"alone": [], "shared": []} for name in names}
    for encoder, items in pairs:
        seconds_of(encoder, items)
    for turn in range(few_rounds(arguments)):
        for condition in ("alone", "shared"):
            n_busy = THREADS if condition == "shared" else 0
            busy = [subprocess.Popen([sys.executable, "-c", _SPIN]) for _ in range(n_busy)]
            try:
                for name, (encoder, items) in zip(names, pairs, strict=True):
                    rates[name][condition].append(len(items) / seconds_of(encoder, items))
            finally:
                for process in busy:
                    process.kill()
                    process.wait()
        told = ", ".join(f"{n} {r['alone'][-1]:.0f} -> {r['shared'][-1]:.0f}" for n, r in rates.items())
        print(f"  round {turn + 1}: {told}", flush=True)
    return {"rates": rates}


def networks(arguments: argparse.Namespace) -> dict[str, Any]:
    """Rates of other networks, each beside the same network in the loop."""
    pictures = photographs(arguments.pictures)
    few = pictures[: arguments.few_pictures]
    found: dict[str, Any] = {"rates": {}, "layers": {}, "n": 2 * len(few), "n_few": len(few)}
    for name in NETWORKS:
        with tempfile.TemporaryDirectory() as scratch:
            ours, loop = random_network(name, Path(scratch))
        for encoder in (ours, loop):
            seconds_of(encoder, pictures[:32])
        print(f"  {name}", flush=True)
        found["rates"][name] = rounds_of(
            [ours, loop], lambda e, loop=loop: few if e is loop else pictures[: found["n"]], few_rounds(arguments)
        )
        found["layers"][name] = ours.encoder.recipe.layers[0]
        found["precision"] = ours.encoder.recipe.precision
    return found


def few_rounds(arguments: argparse.Namespace) -> int:
    return min(arguments.rounds, FEW_ROUNDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part; may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=256, help="for embedsearch, a round")
    parser.add_argument("--few-pictures", type=int, default=64, help="for the others, a round")
    parser.add_argument("--glosses", type=int, default=20_000, help="for embedsearch and OpenVINO, a round")
    parser.add_argument("--few", type=int, default=1000, help="for sentence-transformers, a round")
    parser.add_argument("--write", type=Path, help="write the page from all parts that were run, now or before")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for part in arguments.only or PARTS:
        print(part, flush=True)
        machine, start = describe(), time.perf_counter()
        found = {"images": images, "texts": texts, "load": load, "networks": networks}[part](arguments)
        rounds = few_rounds(arguments) if part in ("load", "networks") else arguments.rounds
        found.update(machine=machine, day=date.today().isoformat(), rounds=rounds)
        found["minutes"] = round((time.perf_counter() - start) / 60, 1)
        (FOLDER / f"{part}.json").write_text(json.dumps(found, indent=1))
    kept = {part: FOLDER / f"{part}.json" for part in PARTS}
    text, missed = page({part: json.loads(path.read_text()) for part, path in kept.items() if path.exists()})
    print(text)
    if arguments.write:
        arguments.write.write_text(text)
    if missed:
        sys.exit(f"missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
