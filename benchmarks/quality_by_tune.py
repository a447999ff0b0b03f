"""Emoji by the recipe that `tune` writes for the drawings of two other vendors; a row of the table of quality.py."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

import embedsearch as es

sys.path.insert(0, str(Path(__file__).parent))
from data import emoji_folders

SIZE = 96


def by_tune(tuning: tuple[str, str], vendors: tuple[str, str]) -> tuple[str, np.ndarray]:
    """What `tune` chose by labels (the code, over the drawings of both vendors of `tuning`), and whether the first
    answer is right for each drawing of the first of `vendors`, asked of an index of the second's by that recipe."""
    with tempfile.TemporaryDirectory() as scratch:
        labels = {}
        folders, names = emoji_folders(tuning)
        for vendor in tuning:
            linked(folders[vendor], names, Path(scratch) / "tuning" / vendor)
            labels |= {f"{vendor}/{name}": name for name in names}
        tuned = es.tune(Path(scratch) / "tuning", labels, size=SIZE, weights="packaged", sample=len(labels))
        print(tuned, file=sys.stderr, flush=True)
        assert tuned.chosen is not None
        folders, names = emoji_folders(vendors)
        linked(folders[vendors[1]], names, Path(scratch) / "answers")
        index = es.build(Path(scratch) / "answers", Path(scratch) / "index", recipe=tuned.recipe, index="flat")
        answers = index.search_many([str(folders[vendors[0]] / name) for name in names], k=1)
        right = [hits[0].id == name for hits, name in zip(answers, names, strict=True)]
        return str(tuned.chosen.candidate), np.array(right, np.float64)


def linked(folder: Path, names: list[str], to: Path) -> None:
    """Links to files of a folder in a new one."""
    to.mkdir(parents=True)
    for name in names:
        (to / name).symlink_to(folder / name)


if __name__ == "__main__":
    told, values = by_tune(("apple", "facebook"), ("google", "twitter"))
    print(f"{told}: {values.mean():.3f} of {len(values):,}")
