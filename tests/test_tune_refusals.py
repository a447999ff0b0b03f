"""Tuning where something is wrong with what it is given: told before the pass, by name, and with nothing left lying."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import subprocess
import sys

import pytest
from PIL import Image

import embedsearch as es
from embedsearch.artifact import write_atomically
from embedsearch.cli.main import run
from embedsearch.errors import EmbedSearchError
from embedsearch.evaluate.bootstrap import Figure
from embedsearch.pipeline.tune import tune as tuning
from embedsearch.pipeline.tune.candidates import Candidate
from embedsearch.pipeline.tune.choosing import Choice
from embedsearch.pipeline.tune.labelled import _verdict
from embedsearch.presenters.heatmap import draw_heatmap

NETWORK = """
import torch

def make():
    torch.manual_seed(0)
    first, second = torch.nn.Conv2d(3, 8, 3, 2), torch.nn.Conv2d(8, 16, 3, 2)
    return torch.nn.Sequential(first, torch.nn.ReLU(), second, torch.nn.ReLU())
"""
A, B = Candidate(("a",), "mean"), Candidate(("b",), "mean")


@pytest.fixture
def drawings(tmp_path, emoji, monkeypatch):
    """Sixteen codes by two vendors, as photos/CODE/VENDOR.png, and a network of a user's own."""
    monkeypatch.chdir(tmp_path)
    for vendor, paths in emoji.items():
        for path in paths[:16]:
            (tmp_path / "photos" / path.stem).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / "photos" / path.stem / f"{vendor}.png")
    (tmp_path / "own.py").write_text(NETWORK)
    return tmp_path


def tune(**more):
    return es.tune("photos", **{"label_folders": True, "backbone": "module:own.py:make", "size": 32, **more})


def command(line, capsys):
    with pytest.raises(SystemExit) as end:
        run(shlex.split(line))
    told = capsys.readouterr()
    assert end.value.code == 0, told.err
    return told.out


def names(folder):
    return {path.name for path in folder.iterdir()} - {"__pycache__"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"out": "photos"}, "photos cannot be written: it is a folder"),
        ({"out": "none/best.json"}, "the folder none does not exist"),
        ({"heatmap": "none/best.png"}, "none/best.png cannot be written: the folder none does not exist"),
        ({"poolings": ["mean", "nopool"]}, "'nopool' is not known"),
        ({"poolings": ["cls", "mean"]}, "pooling cls suits none of the layers"),
        ({"layers": ["9"]}, "'9' is not known"),
        ({"label_folders": False, "sample": 20}, "20 items are too few to tune on without labels; at least 30"),
    ],
)
def test_what_cannot_be_done_is_told_before_the_pass(drawings, monkeypatch, options, told):
    monkeypatch.setattr(tuning, "pool_sample", lambda *_: pytest.fail("a pass was made"))
    before = names(drawings)
    with pytest.raises(EmbedSearchError, match=told):
        tune(**{"out": "best.json", **options})
    assert names(drawings) == before


def test_a_picture_that_cannot_be_read_is_named(drawings):
    (broken := next((drawings / "photos").iterdir()) / "google.png").write_bytes(b"no picture")
    tuned = tune(layers=["1"])
    item_id = broken.relative_to(drawings / "photos").as_posix()
    assert list(tuned.reasons) == [item_id] and f"could not be read, such as {item_id}: " in str(tuned)


def test_the_command_that_comes_next_is_one_that_runs(drawings, capsys):
    photos = (drawings / "photos").rename(drawings / "my photos")
    paths = sorted(photos.rglob("*.png"))
    rows = [f"{n},{path.relative_to(drawings)},{path.parent.name}" for n, path in enumerate(paths)]
    (drawings / "my table.csv").write_text("\n".join(["number,picture,code", *rows]))
    told = command(
        "tune 'my table.csv' --id-column number --image-column picture --label-column code "
        "--backbone module:own.py:make --size 32 --layer 1 --out 'my best.json'",
        capsys,
    )
    following = told.splitlines()[-1].partition(": embedsearch ")[2]
    command(f"{following} --out index", capsys)
    assert es.open("index").ids == [*map(str, range(32))]


def test_an_earlier_recipe_is_not_taken_for_one_that_was_written(drawings, capsys):
    (drawings / "best.json").write_text("{}")
    told = command("tune photos --backbone module:own.py:make --size 32 --layer 1 --pooling mean", capsys)
    assert told.splitlines()[-2].startswith("no recipe is written")
    assert told.splitlines()[-1] == "best.json is an earlier one" and (drawings / "best.json").read_text() == "{}"


def test_layers_that_give_the_same_are_tried_once(drawings):
    tuned = tune()
    assert tuned.layers == ["output", "1"]  # the second ReLU, 3, is the output
    assert tuned.notes == ["layer 3 gives what output gives, so it is not tried beside it"]
    assert all("3" not in scored.candidate.layers for scored in tuned.ranked)
    cost = next(line for line in str(tuned).splitlines() if "default" in line).split()[-2]
    assert float(cost) == pytest.approx(tuned.default.gflop, rel=0.01) and float(cost) > 0


def test_what_may_be_luck_is_not_called_better():
    choice, unclear, clear = Choice(0, 0.1, 0.1, 0), Figure(0.02, -0.05, 0.08), Figure(0.2, 0.1, 0.3)
    told, taken = _verdict(choice, A, B, {"mAP": unclear})
    assert taken == A and "+0.0200 mAP, -0.0500 to +0.0800" in told and "may be luck" in told and "better" not in told
    assert _verdict(choice, A, B, {"mAP": clear}) == ("better than the default, on items it was not chosen by", A)
    assert _verdict(choice, A, B, {"mAP": Figure(-0.01, -0.1, 0.1)})[1] == B


def test_a_full_disk_names_the_file_and_leaves_what_was_there(tmp_path, monkeypatch, capsys):
    path = tmp_path / "best.json"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    with pytest.raises(OSError, match="No space left on device") as told:
        write_atomically(path, b"new")
    assert told.value.errno == errno.ENOSPC and told.value.filename == str(path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_frames_stand_out_on_the_darkest_cell(tmp_path):
    path = tmp_path / "heat.png"
    draw_heatmap([[0.1], [0.2]], ["a", "b"], ["x"], path, title="t", default=[(1, 0)])
    with Image.open(path) as drawn:
        column = [drawn.getpixel((drawn.width // 2 + 20, y)) for y in range(drawn.height)]
    at = column.index((20, 90, 170))  # the frame's blue: of it, of white, of the cell
    assert column[at : at + 6] == [(20, 90, 170)] * 3 + [(255, 255, 255)] * 2 + [(8, 48, 107)]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_picture_that_a_full_disk_cuts_off_is_as_it_was(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"heat.{suffix}"
    draw_heatmap([[0.1, 0.2]], ["a"], ["x", "y"], path, title="first")
    before = path.read_bytes()

    def full(self, file, kind):
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left on device") as told:
        draw_heatmap([[0.3, 0.4]], ["a"], ["x", "y"], path, title="second")
    assert told.value.filename == str(path) and path.read_bytes() == before and names(tmp_path) == {path.name}


def test_a_full_disk_ends_the_command_with_one_line_and_the_same_command_goes_on(drawings):
    line = shlex.split("tune photos --label-folders --backbone module:own.py:make --size 32 --out best.json")
    limited = (
        "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (9000, r.RLIM_INFINITY)); "
        f"from embedsearch.cli.main import run; run({line!r})"
    )
    full = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=False)
    assert full.returncode == 1 and full.stderr.splitlines()[-1].startswith("error: File too large: best.json.partial/")
    assert not list(drawings.glob("best.json.partial/*.tmp")) and not (drawings / "best.json").exists()
    assert tune(out="best.json").out.exists() and not (drawings / "best.json.partial").exists()
