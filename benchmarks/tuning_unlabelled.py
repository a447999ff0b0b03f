"""Tuning without labels, beside what labels say of the same choices."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata, spearmanr
from tuning_sets import Set, in_views

from embedsearch.pipeline.tune.candidates import Candidate
from embedsearch.pipeline.tune.scoring import found_again
from embedsearch.pipeline.tune.sweep import Sweep
from embedsearch.pipeline.tune.unlabelled import thirds, tune_by_tasks
from embedsearch.pipeline.tune.views import ITSELF, tasks_of
from embedsearch.types import NoProgress

N_ITEMS = 300  # what the command looks at
WITHOUT_LABELS = f"""\
The command looks at {N_ITEMS} items (of emoji, at the drawings of one vendor alone); labels are used only here, to see
whether it is right. Spearman's correlation of the order of all layers with all poolings by each task, and by the mean
rank over tasks, with their order by mAP of the labels on a part of the set; the least agreement of two tasks; what the
command says; and what the best by all tasks, which it writes only where it can tell, gains by labels."""

Judged = Callable[[Set, Candidate, np.ndarray], dict[str, np.ndarray]]


def unlabelled(data: Set, singles: list[Candidate], by_labels: np.ndarray, judged: Judged) -> str:
    """The line of one set. singles: layers and poolings, with their mAP by labels."""
    modality = data.encoder.recipe.modality
    tasks = tasks_of(modality)
    views = list(dict.fromkeys([ITSELF, *(view for t in tasks.values() for view in (t.answering, t.asking))]))
    some = [item for item in data.items if data.name != "emoji" or item.id.startswith("google/")]
    drawn = np.sort(np.random.default_rng(0).permutation(len(some))[:N_ITEMS])
    pooled = in_views(f"{data.name}-views", [some[at] for at in drawn], data.encoder, views)
    parts = thirds(len(pooled.kept))
    sweep = Sweep(pooled, parts.fit, len(views))
    numbered = {name: (views.index(task.asking), views.index(task.answering)) for name, task in tasks.items()}
    told = tune_by_tasks(sweep, singles, data.default, numbered, parts, NoProgress())
    by_task = {name: np.zeros(len(singles)) for name in tasks}
    for at, single in enumerate(singles):
        seen = sweep.vectors(single, parts.choose)
        for name, (asking, answering) in numbered.items():
            by_task[name][at] = found_again(seen[asking], seen[answering]).mean()
    mean_rank = np.mean([rankdata(values) for values in by_task.values()], axis=0)
    like = {name: float(spearmanr(values, by_labels).statistic) for name, values in by_task.items()}
    rows = np.sort(np.random.default_rng(1).permutation(len(data.items))[:1000])
    gain = float(np.nanmean(judged(data, told.best, rows)["mAP"] - judged(data, data.default, rows)["mAP"]))
    print(data.name, told.verdict, file=sys.stderr)
    return (
        f"| {data.name} | {', '.join(f'{name} {value:+.2f}' for name, value in like.items())} | "
        f"{spearmanr(mean_rank, by_labels).statistic:+.2f} | {min(told.agreement.values()):+.2f} | "
        f"{'cannot tell' if told.taken is None else f'takes {told.taken}'} | {told.best}: {gain:+.4f} |"
    )
