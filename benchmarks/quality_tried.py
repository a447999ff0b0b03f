"""What else may lift a default recipe, on the tasks that quality_tuned.py chooses by; a section of quality.py."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from embedsearch.evaluate import bootstrapped

sys.path.insert(0, str(Path(__file__).parent))
from quality_tuned import EXPAND, Set, expanded, sets, values_of, vectors


def tried_table(found: Sequence[Set]) -> list[str]:
    columns = [(f"{each.name} {label}".strip(), task, each.default) for each in found for label, task in each.tuning]
    both = [vectors(task, default) for _, task, default in columns]
    without = [values_of(q, x, task) for (q, x), (_, task, _) in zip(both, columns, strict=True)]
    lines = [
        "## What else was tried",
        "",
        "On the tasks for tuning, never on those above, with the default recipe: the mean of the differences to it,",
        "query by query, with 95 % intervals. Expanded: the N best answers join the query, weighted by the cube of",
        "their cosine (`--expand N`), in one row by the cosine itself. Database-side: the N nearest neighbours of each",
        "stored vector join it instead (Turcot & Lowe 2009), and the query stays as it is.",
        "",
        f"| | {' | '.join(f'{name}, {task.measure}' for name, task, _ in columns)} |",
        f"|---|{'---|' * len(columns)}",
        f"| default | {' | '.join(f'{values.mean():.3f}' for values in without)} |",
    ]

    def row(name: str, changed: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> None:
        cells = []
        for (q, x), (_, task, _), before in zip(both, columns, without, strict=True):
            apart = bootstrapped(values_of(*changed(q, x), task) - before)
            cells.append(f"{apart.mean:+.3f} ({apart.low:+.3f} to {apart.high:+.3f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)

    for n in EXPAND[1:]:
        row(f"expanded by {n}", lambda q, x, n=n: (expanded(q, x, n), x))
    row("expanded by 3, by the cosine", lambda q, x: (expanded(q, x, 3, alpha=1), x))
    for n in EXPAND[1:]:
        row(f"database-side, {n}", lambda q, x, n=n: (q, expanded(x, x, n, own=True)))
    return [*lines, ""]


if __name__ == "__main__":
    print("\n".join(tried_table(sets())))
