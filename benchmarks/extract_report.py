"""The page about extraction, from what was measured, and whether its targets are reached."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEAST_COSINE, LEAST_BUILD, LEAST_PEAK, LEAST_PICTURES, LEAST_TEXTS = 0.999, 0.9, 0.85, 2.0, 4.0
_INT8 = "embedsearch, int8"
MOST_LOSS = 10.0  # what a machine shared with one busy process a core may cost, at the most


@dataclass(frozen=True)
class Check:
    what: str
    figure: float
    least: float

    @property
    def row(self) -> str:
        met = "yes" if self.figure >= self.least else "**no**"
        return f"| {self.what} | {_short(self.figure)} | {_short(self.least)} | {met} |"


def page(parts: Mapping[str, Mapping[str, Any]]) -> tuple[str, list[str]]:
    """Markdown, and what misses its target."""
    lines = ["# Speed of extraction", "", "Printed by `benchmarks/extract.py`; medians, and the worst and best round."]
    checks: list[Check] = []
    for part, write in (("images", _images), ("texts", _texts), ("load", _load), ("networks", _networks)):
        if part in parts:
            found = parts[part]
            lines += ["", *write(found, checks)]
            lines += ["", f"{found['day']}, {found['rounds']} rounds in {found['minutes']} min. {found['machine']}."]
    lines += ["", "## Targets", "", "| what | measured | at least | reached |", "|---|---|---|---|"]
    lines += [check.row for check in checks]
    return "\n".join([*lines, ""]), [check.what for check in checks if check.figure < check.least]


def _images(found: Mapping[str, Any], checks: list[Check]) -> list[str]:
    rates, ours = found["rates"], statistics.median(found["rates"]["embedsearch"])
    done = ours * found["gflop"]
    lines = [
        "## Pictures: VGG16 to relu5_3 at 224 px",
        "",
        f"From JPEG files to pooled vectors, {found['n']:,} a round ({found['n_few']:,} for the others), "
        f"in {found['precision']} here and in float32 elsewhere. The build: {found['build']}.",
        "",
        *_table(rates, "pictures/s"),
        "",
        f"{found['gflop']} GFLOP a picture: embedsearch computes {done:,.0f} GFLOP/s. Right before and after "
        f"it each round measured what the machine keeps up for half a second in {found['precision']}, on all threads:",
        "",
        "| GFLOP/s | median | worst, best | embedsearch reaches |",
        "|---|---|---|---|",
    ]
    for kind in ("GEMM", "convolution"):
        peaks = [peak[kind] for peak in found["peaks"]]
        # round by round, for the machine is not the same in all of them
        shares = [rate * found["gflop"] / peak for rate, peak in zip(rates["embedsearch"], peaks, strict=True)]
        share = statistics.median(shares)
        lines.append(f"| best {kind} | {statistics.median(peaks):,.0f} | {_span(peaks)} | {share:.0%} |")
        if kind == "convolution":
            checks.append(Check(f"pictures: share of the {found['precision']} convolution peak", share, LEAST_PEAK))
    lines += [
        "",
        f"Least cosine to float32 over all pictures {found['cosine']:.5f}.",
    ]
    peers = [name for name in rates if not name.startswith("embedsearch")]
    checks += [Check(f"pictures: to {n}", _ratio(rates, "embedsearch", n), LEAST_PICTURES) for n in peers]
    return _common(found, checks, "pictures", lines)


def _texts(found: Mapping[str, Any], checks: list[Check]) -> list[str]:
    rates = found["rates"]
    lines = [
        "## Texts: MiniLM over glosses of WordNet",
        "",
        f"From strings to vectors, {found['n']:,} a round ({found['n_few']:,} for sentence-transformers), in "
        f"{found['precision']} here. OpenVINO is given the network itself, texts sorted by length and its throughput "
        f"hint; its batch and the best one of sentence-transformers were chosen on a sample. "
        f"The build: {found['build']}.",
        *([f"The one in int8: {found['build_int8']}."] if found["build_int8"] else []),
        "",
        *_table(rates, "texts/s", _INT8),
        "",
        *_shares_of_gemm(found),
        "",
        f"Least cosine to float32 over all texts {found['cosine']:.5f}"
        + (f", in int8 {found['cosine_int8']:.5f}" if found["cosine_int8"] else "")
        + f"; of float32 to sentence-transformers {found['cosine_to_peer']:.5f}.",
    ]
    peers = [name for name in rates if not name.startswith("embedsearch")]
    targets = {name: LEAST_TEXTS if name == found["default"] else 1.0 for name in peers}
    checks += [Check(f"texts: to {n}", _ratio(rates, "embedsearch", n), least) for n, least in targets.items()]
    if _INT8 in rates:
        checks += [Check(f"texts, int8: to {n}", _ratio(rates, _INT8, n), least) for n, least in targets.items()]
        built = _ratio(rates, "embedsearch, a build, int8", _INT8)
        checks += [
            Check("texts, int8: least cosine to float32", found["cosine_int8"], LEAST_COSINE),
            Check("texts, int8: extraction of a build to the bare encoder", built, LEAST_BUILD),
        ]
    return _common(found, checks, "texts", lines)


def _shares_of_gemm(found: Mapping[str, Any]) -> list[str]:
    """What part of the products that the machine could compute in its precision each of two encoders computes."""
    lines = [
        f"{found['gflop']:.2f} GFLOP a text in linear layers. Right before and after embedsearch each round measured "
        "what products the machine keeps up for half a second on all threads:",
        "",
        "| GFLOP/s | median | worst, best | reached |",
        "|---|---|---|---|",
    ]
    for name, precision in (("embedsearch", found["precision"]), (found["default"], "float32")):
        peaks = [peak[precision] for peak in found["peaks"]]
        shares = [rate * found["gflop"] / peak for rate, peak in zip(found["rates"][name], peaks, strict=True)]
        reached = f"{statistics.median(shares):.0%} by {name}"
        lines.append(f"| best GEMM, {precision} | {statistics.median(peaks):,.0f} | {_span(peaks)} | {reached} |")
    return lines


def _load(found: Mapping[str, Any], checks: list[Check]) -> list[str]:
    lines = [
        "## A machine that is shared",
        "",
        "The same alone and with one process on every core that never pauses; half is what is left of the processor.",
        "",
        "| | alone, items/s | shared, items/s | what is left |",
        "|---|---|---|---|",
    ]
    for name, rates in found["rates"].items():
        alone, shared = (statistics.median(rates[condition]) for condition in ("alone", "shared"))
        lines.append(f"| {name} | {alone:,.1f} | {shared:,.1f} | {shared / alone:.0%} |")
        if name.startswith("embedsearch"):
            checks.append(Check(f"shared: {name}, of the rate alone", shared / alone, 1 / MOST_LOSS))
    return lines


def _networks(found: Mapping[str, Any], _checks: list[Check]) -> list[str]:
    lines = [
        "## Other networks of torchvision",
        "",
        f"From JPEG files to pooled vectors of their default layers, {found['n']} a round ({found['n_few']} for the "
        f"loop), in {found['precision']} here and in float32 there, with random weights.",
        "",
        "| network | layer | embedsearch, pictures/s | torchvision loop | ratio |",
        "|---|---|---|---|---|",
    ]
    for name, rates in found["rates"].items():
        ours, loop = (statistics.median(rates[who]) for who in ("embedsearch", "torchvision loop"))
        ratio = _ratio(rates, "embedsearch", "torchvision loop")
        lines.append(f"| {name} | {found['layers'][name]} | {ours:,.1f} | {loop:,.1f} | {ratio:.2f} |")
    return lines


def _common(found: Mapping[str, Any], checks: list[Check], what: str, lines: list[str]) -> list[str]:
    checks.append(Check(f"{what}: least cosine to float32", found["cosine"], LEAST_COSINE))
    built = _ratio(found["rates"], "embedsearch, a build", "embedsearch")
    checks.append(Check(f"{what}: extraction of a build to the bare encoder", built, LEAST_BUILD))
    return lines


def _table(rates: Mapping[str, Sequence[float]], unit: str, second: str = "") -> list[str]:
    """Rates, and those of "embedsearch" and of `second`, where it was measured, to each."""
    ours = [name for name in ("embedsearch", second) if name in rates]
    lines = [f"| | {unit} | worst, best | {' | '.join(f'{name} to it' for name in ours)} |"]
    lines.append(f"|---|---|---{'|---' * len(ours)}|")
    for name, values in rates.items():
        ratios = ["" if own == name else f"{_ratio(rates, own, name):.2f}" for own in ours]
        lines.append(f"| {name} | {statistics.median(values):,.1f} | {_span(values)} | {' | '.join(ratios)} |")
    return lines


def _ratio(rates: Mapping[str, Sequence[float]], name: str, other: str) -> float:
    """The median of the ratios of the rounds."""
    return statistics.median(a / b for a, b in zip(rates[name], rates[other], strict=True))


def _span(values: Sequence[float]) -> str:
    return f"{min(values):,.1f}, {max(values):,.1f}"


def _short(figure: float) -> str:
    return f"{figure:.5f}" if 0.99 < figure < 1 else f"{figure:.2f}"
