"""Tuning without labels: the tasks, and when they cannot tell; and going on after a kill."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

import embedsearch as es
from embedsearch.cli.main import run
from embedsearch.errors import UsageError
from embedsearch.evaluate.bootstrap import Figure
from embedsearch.pipeline.tune import pooled
from embedsearch.pipeline.tune.candidates import Candidate
from embedsearch.pipeline.tune.scoring import found_again
from embedsearch.pipeline.tune.unlabelled import _verdict, agreement
from embedsearch.pipeline.tune.views import _TASKS, _VIEWS, seen, tasks_of
from embedsearch.types import Modality
from embedsearch.vectors import l2_normalize

HERE = Path(__file__).parent
FAQ = HERE / "data" / "banking77" / "faq.csv"
BEST, DEFAULT = Candidate(("a",), "gem"), Candidate(("b",), "mean")


def test_texts_that_tasks_order_differently_get_no_recipe(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        run(["tune", str(FAQ), "--sample", "150"])
    told = capsys.readouterr()
    assert end.value.code == 0, told.err
    assert "without labels, by tasks made of the items themselves" in told.out
    assert "cannot tell" in told.out and "label some items" in told.out
    assert not list(tmp_path.iterdir())


def test_texts_with_labels_keep_their_default_or_beat_it(tmp_path):
    tuned = es.tune(FAQ, label_column="intent", sample=200, out=tmp_path / "best.json")
    assert tuned.labelled and json.loads((tmp_path / "best.json").read_text()) == tuned.recipe
    assert tuned.chosen is tuned.default or tuned.difference["mAP"].high > 0
    index = es.build(FAQ, tmp_path / "index", recipe=tmp_path / "best.json")
    assert tuple(index.info()["recipe"]["layers"]) == tuned.chosen.candidate.layers


def test_every_view_is_another_one_and_always_the_same(emoji):
    text = "Would you please tell me the status of my refund request for a large purchase?"
    for modality, content in ((Modality.IMAGE, emoji["google"][40]), (Modality.TEXT, text)):
        views = {view for task in tasks_of(modality).values() for view in (task.asking, task.answering)} - {"itself"}
        for name in views:
            first, again = (seen(content, name, modality, "id") for _ in range(2))
            other = seen(content, name, modality, "another id")
            if modality is Modality.IMAGE:
                assert isinstance(first, Image.Image) and first.tobytes() == again.tobytes() != other.tobytes()
            else:
                assert first == again != text
    assert seen(text, "odd words", Modality.TEXT, "id").split() == text.split()[::2]
    assert seen(text, "even words", Modality.TEXT, "id").split() == text.split()[1::2]
    assert {view for tasks in _TASKS.values() for t in tasks.values() for view in (t.asking, t.answering)} == {
        "itself",
        *_VIEWS,
    }


def test_a_text_of_one_word_survives_every_view():
    for name in ("dropped", "reordered", "first words", "misspelt", "odd words", "even words"):
        assert seen("word", name, Modality.TEXT, "id").strip()


def test_found_again_is_one_over_the_place(rng):
    asking, answering = (l2_normalize(rng.normal(size=(20, 4)).astype(np.float32)) for _ in range(2))
    scores = asking @ answering.T
    places = (scores > np.diag(scores)[:, None]).sum(axis=1) + 1
    np.testing.assert_allclose(found_again(asking, answering), 1 / places)


def test_agreement_is_that_of_scipy(rng):
    scores = {name: rng.integers(0, 9, 30).astype(float) for name in "abc"}
    for pair, value in agreement(scores).items():
        a, b = pair.split(" - ")
        assert value == pytest.approx(spearmanr(scores[a], scores[b]).statistic)


def test_a_choice_is_told_only_where_all_tasks_agree():
    better, unclear = Figure(0.2, 0.1, 0.3), Figure(0.1, -0.1, 0.3)
    assert _verdict({"x - y": 0.9}, BEST, DEFAULT, {"x": better, "y": better})[0]
    assert not _verdict({"x - y": 0.5}, BEST, DEFAULT, {"x": better, "y": better})[0]
    can_tell, why = _verdict({"x - y": 0.9}, BEST, DEFAULT, {"x": better, "y": unclear})
    assert not can_tell and "by y" in why
    assert _verdict({"x - y": 0.9}, DEFAULT, DEFAULT, {})[0]


def test_too_few_items_and_arrays_are_refused(tmp_path, emoji):
    (tmp_path / "few").mkdir()
    for path in emoji["google"][:12]:
        shutil.copy(path, tmp_path / "few")
    with pytest.raises(UsageError, match="too few"):
        es.tune(tmp_path / "few", weights="packaged", size=64, layers=["features.22"], poolings=["mean"])


@pytest.fixture
def two_vendors(tmp_path, emoji):
    root, lines = tmp_path / "pictures", ["id,label"]
    for vendor, paths in emoji.items():
        (root / vendor).mkdir(parents=True)
        for path in paths[:30]:
            shutil.copy(path, root / vendor)
            lines.append(f"{vendor}/{path.name},{path.stem}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return root


def test_a_killed_run_goes_on(two_vendors, tmp_path, monkeypatch):
    out, labels = tmp_path / "best.json", tmp_path / "labels.csv"
    command = [sys.executable, str(HERE / "killed_tune.py"), str(two_vendors), str(labels), str(out), "2"]
    assert subprocess.run(command, check=False).returncode == -9
    folder = tmp_path / "best.json.partial"
    kept = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.safetensors")}
    assert len(kept) >= 2 and not out.exists()
    monkeypatch.setattr(pooled, "SHARD", 16)
    saved, save = [], pooled.write_atomically
    monkeypatch.setattr(pooled, "write_atomically", lambda path, data: (saved.append(path.name), save(path, data)))
    options = {"weights": "packaged", "size": 64, "layers": ["features.22"], "poolings": ["mean"]}
    tuned = es.tune(two_vendors, labels, **options, out=out)
    assert len(saved) == 4 - len(kept) and not set(saved) & set(kept)
    assert not folder.exists() and out.exists()
    again = es.tune(two_vendors, labels, **options)
    assert again.to_dict() | {"out": None, "notes": tuned.notes} == tuned.to_dict() | {"out": None}
    assert [note for note in tuned.notes if "an earlier run" in note] and not again.notes


def test_what_was_made_for_something_else_is_not_taken(tmp_path):
    out = tmp_path / "best.json"
    for key, left in (({"a": 1}, 0), ({"a": 1}, 1), ({"a": 2}, 0)):
        with pytest.raises(ZeroDivisionError), pooled.work_folder(out, key) as folder:
            assert len(list(folder.glob("*.safetensors"))) == left
            (folder / "0-0.safetensors").touch()
            raise ZeroDivisionError
    folder = tmp_path / "other.json.partial"
    folder.mkdir()
    (folder / "precious.txt").touch()
    with pytest.raises(UsageError, match="in the way"), pooled.work_folder(tmp_path / "other.json", {}):
        pass
    assert (folder / "precious.txt").exists()
