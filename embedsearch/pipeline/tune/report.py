"""What tuning found out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedsearch.errors import counted
from embedsearch.evaluate.bootstrap import Figure
from embedsearch.pipeline.tune.candidates import Candidate
from embedsearch.presenters.plain import aligned

SHOWN = 10


@dataclass(frozen=True, slots=True)
class Scored:
    """One candidate. choosing: its figure by what chose. gflop: of one item to its last layer, None where not known.
    bytes_per_vector: float32. gain: choosing minus the default's, by labels only. report: measures by what did not
    choose, None for all but the chosen one and the default."""

    candidate: Candidate
    choosing: Figure
    gflop: float | None
    bytes_per_vector: int
    gain: Figure | None = None
    report: dict[str, Figure] | None = None


@dataclass(slots=True)
class Tuned:
    """What tuning found out.

    measure: that the choice was made by. ranked: candidates, the best first; by labels, that whose gain over the
    default is the surest. chosen: that the recipe holds, None where it cannot be told. difference: of each measure,
    chosen minus default, query by query, by queries that the choice did not see. recipe: fields of a recipe file, None
    where it cannot be told. n_source: items there are. parts: ids of the parts of the sample: what projections were
    fitted on ("fit"); by labels, the folds of the queries ("fold 1", ...) and what only answers ("answer"); without,
    what the choice was made on ("choose") and what nothing was chosen by ("report"). n_asked: queries that did not
    choose. whole_labels: no label is in two folds. agreement: Spearman between the orders that the tasks give, by
    pair, without labels only. heat: layers x poolings, the best figure of choosing over projections, NaN where a
    pooling does not suit.
    """

    measure: str
    labelled: bool
    ranked: list[Scored]
    default: Scored
    chosen: Scored | None
    difference: dict[str, Figure]
    recipe: dict[str, Any] | None
    n_source: int
    parts: dict[str, list[str]]
    n_asked: int
    whole_labels: bool
    verdict: str
    layers: list[str] = field(default_factory=list)
    poolings: list[str] = field(default_factory=list)
    heat: list[list[float]] = field(default_factory=list)
    agreement: dict[str, float] = field(default_factory=dict)
    tasks: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    out: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        numbers = ("n_source", "parts", "n_asked", "whole_labels", "verdict", "agreement", "notes")
        return {
            "measure": self.measure,
            "labelled": self.labelled,
            "tasks": self.tasks,
            **{name: getattr(self, name) for name in numbers},
            "skipped": self.reasons,
            "chosen": None if self.chosen is None else _entry(self.chosen),
            "default": _entry(self.default),
            "difference": {name: _figure(figure) for name, figure in self.difference.items()},
            "ranked": [_entry(scored) for scored in self.ranked],
            "heatmap": {
                "layers": self.layers,
                "poolings": self.poolings,
                "values": [[None if value != value else round(value, 6) for value in row] for row in self.heat],
            },
            "recipe": self.recipe,
            "out": None if self.out is None else str(self.out),
        }

    def __str__(self) -> str:
        """What the command prints."""
        lines = [*self._about(), *aligned(self.rows()), *self._unseen(), f"verdict   {self.verdict}"]
        lines += [f"note      {note}" for note in self.notes]
        if self.reasons:
            item_id, reason = next(iter(self.reasons.items()))
            n_lost = counted(len(self.reasons), "drawn item")
            lines.append(f"note      {n_lost} could not be read, such as {item_id}: {reason}")
        return "\n".join(lines)

    def _about(self) -> list[str]:
        sizes = {name: len(ids) for name, ids in self.parts.items()}
        by = "by labels" if self.labelled else "without labels, by tasks made of the items themselves"
        lines = [f"tuned on {sum(sizes.values()):,} of {counted(self.n_source, 'item')}, {by}", *self._how(sizes)]
        lines += [f"task      {name}: {told}" for name, told in self.tasks.items()]
        if self.agreement:
            told = ", ".join(f"{pair} {value:+.2f}" for pair, value in self.agreement.items())
            lines.append(f"agreement of the tasks' orders (Spearman): {told}")
        return lines

    def _how(self, sizes: dict[str, int]) -> list[str]:
        fitted = f"fitted    projections, on {counted(sizes['fit'], 'item')}"
        if not self.labelled:
            return [f"{fitted}; chosen by {self.measure} on {sizes['choose']:,}; told from {sizes['report']:,}"]
        folds = [size for name, size in sizes.items() if name.startswith("fold")]
        others = f"; they and {sizes['answer']:,} without labels answer" if sizes["answer"] else ", and answer"
        apart = "no label is in two of them" if self.whole_labels else "each label is divided among them"
        return [
            fitted,
            f"asked     {counted(sum(folds), 'labelled item')}{others}",
            f"chosen    by {self.measure}, cross-validated over {len(folds)} folds ({apart})",
        ]

    def _unseen(self) -> list[str]:
        """Figures by queries that the choice did not see."""
        rows = [[f"by {self.n_asked:,} queries that the choice did not see", *(self.default.report or {})]]
        if self.chosen is not None and self.chosen is not self.default:
            rows.append(["chosen", *map(str, (self.chosen.report or {}).values())])
        rows.append(["default", *map(str, (self.default.report or {}).values())])
        if self.difference:
            label = "difference" if self.chosen else "best by all tasks, minus default"
            rows.append([label, *map(_signed, self.difference.values())])
        return aligned(rows)

    def rows(self) -> list[list[str]]:
        """The table: SHOWN best and the default."""
        gains = ["gain"] if self.labelled else []
        rows = [["", "layers", "pooling", "projection", self.measure + " (choosing)", *gains, "GFLOP", "bytes"]]
        shown = list(enumerate(self.ranked[:SHOWN], start=1))
        shown += [
            (rank, scored)
            for rank, scored in enumerate(self.ranked[SHOWN:], start=SHOWN + 1)
            if scored is self.default or scored is self.chosen
        ]
        for at, scored in shown:
            marks = " chosen" if scored is self.chosen else ""
            marks += " default" if scored is self.default else ""
            c = scored.candidate
            rows.append(
                [
                    f"{at}{marks}",
                    " + ".join(c.layers),
                    c.pooling,
                    c.projection or "-",
                    str(scored.choosing),
                    *([] if scored.gain is None else [_signed(scored.gain)]),
                    "?" if scored.gflop is None else f"{scored.gflop:.3g}",
                    f"{scored.bytes_per_vector:,}",
                ]
            )
        return rows


def _entry(scored: Scored) -> dict[str, Any]:
    return {
        **scored.candidate.fields(),
        "choosing": _figure(scored.choosing),
        "gain": None if scored.gain is None else _figure(scored.gain),
        "report": None if scored.report is None else {name: _figure(f) for name, f in scored.report.items()},
        "gflop": scored.gflop,
        "bytes_per_vector": scored.bytes_per_vector,
    }


def _signed(figure: Figure) -> str:
    return f"{figure.mean:+.4f} ({figure.low:+.4f} to {figure.high:+.4f})"


def _figure(figure: Figure) -> dict[str, float | None]:
    told = {"mean": figure.mean, "low": figure.low, "high": figure.high}
    return {name: None if value != value else value for name, value in told.items()}
