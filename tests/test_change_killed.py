"""kill -9 at every place of an add, a deletion and an optimize: readers find the old state or the new one, and the same
command ends in the state of an undisturbed one."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import killed_change as kc
import numpy as np
import pytest

import embedsearch as es
from embedsearch.artifact.adding import unfinished_adds
from embedsearch.pipeline import extract
from embedsearch.pipeline.network import PooledNetwork

SCRIPT = Path(kc.__file__)
AFTER = ("after the manifest is renamed", "before the staged rows are thrown away", "before versions are forgotten")


def killed(place, action, out, source=""):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), place, action, str(out), str(source)], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def state(index):
    """Everything a reader can see: ids with their vectors and metadata, and what search answers."""
    ids = sorted(index.ids)
    x = index.vectors(ids)
    found, scores = index.search_vectors(x, k=len(ids)) if ids else ([], np.empty(0))
    assert all(set(row) == set(ids) for row in found), "every item is an answer, and nothing else"
    return ids, x, [index.item(i).metadata for i in ids], scores


def assert_same(mine, theirs):
    assert mine[0] == theirs[0] and mine[2] == theirs[2]
    np.testing.assert_allclose(mine[1], theirs[1], atol=1e-6)
    np.testing.assert_allclose(mine[3], theirs[3], atol=1e-5)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    return changed_index(tmp_path_factory.mktemp("vectors"), "flat")


def changed_index(root, family):
    """An index of 100 vectors that has changed already; an add that replaces, refreshes, and brings a column."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(140, 8)).astype(np.float32)
    index = es.build(x[:100], root / "index", index=family, metadata={"n": list(range(100))})
    index.delete(["7", "50"])
    index.add(x[100:103], ids=["a", "b", "c"], metadata={"n": [100, 101, 102]})
    fresh = np.concatenate([x[110:120], x[20:25], x[103:106]])
    ids = [str(n) for n in range(10, 20)] + [str(n) for n in range(20, 25)] + ["7", "d", "e"]
    np.savez(root / "add.npz", x=fresh, ids=ids, n=np.arange(18), new=[f"v{n}" for n in range(18)])
    return root


def undisturbed(root, action, tmp_path):
    out = shutil.copytree(root / "index", tmp_path / "undisturbed")
    kc.change(action, str(out), str(root / "add.npz"))
    return state(es.open(out))


CASES = [
    *(("add vectors", place) for place in kc.PLACES_OF_ADD),
    *(("delete", place) for place in kc.PLACES_OF_DELETE),
    *(("optimize", place) for place in kc.PLACES_OF_OPTIMIZE),
]


@pytest.mark.parametrize(("action", "place"), CASES, ids=[": ".join(case) for case in CASES])
def test_vectors(action, place, vectors, tmp_path):
    out = shutil.copytree(vectors / "index", tmp_path / "index")
    reader = es.open(out)
    old, new = state(reader), undisturbed(vectors, action, tmp_path)
    killed(place, action, out, vectors / "add.npz")
    between = es.open(out, verify=True)
    assert_same(state(between), new if place in AFTER else old)
    assert_same(state(reader), old)
    if action == "delete" and place in AFTER:
        return  # it is done, and cannot be done twice
    kc.change(action, str(out), str(vectors / "add.npz"))
    assert_same(state(es.open(out, verify=True)), new)
    assert_same(state(between), new if place in AFTER else old)
    es.open(out).optimize()
    assert_same(state(es.open(out, verify=True)), new)


@pytest.fixture(scope="module", params=["graph", "ivf"])
def approximate(request, tmp_path_factory):
    return changed_index(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.parametrize("place", kc.PLACES_OF_OPTIMIZE)
def test_an_optimize_of_other_families(place, approximate, tmp_path):
    test_vectors("optimize", place, approximate, tmp_path)


@pytest.mark.parametrize("place", kc.PLACES_OF_ADD[1:5])
def test_another_command_may_follow_a_killed_add(place, vectors, tmp_path):
    out = shutil.copytree(vectors / "index", tmp_path / "index")
    left = [i for i in es.open(out).ids if i != "9"]
    killed(place, "add vectors", out, vectors / "add.npz")
    index = es.open(out)
    index.delete(["9"])
    assert sorted(index.ids) == sorted(left)
    killed(place, "add vectors", out, vectors / "add.npz")
    assert index.optimize().n_items == len(left) and sorted(es.open(out, verify=True).ids) == sorted(left)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, emoji):
    """An index of eight pictures, and a folder where two of them are others, two were touched, and five are new."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "first").mkdir()
    (root / "more").mkdir()
    for path in emoji["twitter"][:8]:
        shutil.copy(path, root / "first")
    es.build(root / "first", root / "index", weights="packaged", size=64)
    names = sorted(path.name for path in (root / "first").iterdir())
    for name, other in zip(names[:2], emoji["google"][20:22], strict=True):
        shutil.copy(other, root / "more" / name)
    for name in names[2:4]:
        shutil.copy(root / "first" / name, root / "more" / name)
        os.utime(root / "more" / name, (1, 1))
    for path in emoji["google"][30:35]:
        shutil.copy(path, root / "more" / f"new-{path.name}")
    (root / "more" / "bad.png").write_bytes(b"x")
    return root


@pytest.fixture
def passes(monkeypatch):
    """How many inputs went through the network."""
    real, seen = PooledNetwork.encode, []

    def encode(self, loaded, report, *, chunks):
        seen.extend(loaded)
        return real(self, loaded, report, chunks=chunks)

    monkeypatch.setattr(PooledNetwork, "encode", encode)
    return seen


@pytest.mark.parametrize("place", kc.PLACES_OF_STAGING)
def test_pictures(place, pictures, passes, tmp_path, monkeypatch):
    out = shutil.copytree(pictures / "index", tmp_path / "index")
    source = shutil.copytree(pictures / "more", tmp_path / "more")
    whole = es.open(shutil.copytree(pictures / "index", tmp_path / "whole"))
    monkeypatch.setitem(extract.SHARD_SIZES, "image", kc.SHARD)
    report = whole.add(source)
    assert (report.n_new, report.n_replaced, report.n_refreshed, report.n_skipped) == (5, 2, 2, 1)
    assert len(passes) == 8, "what was only touched does not go through the network; the bad one is an error there"
    new, old = state(whole), state(es.open(out))
    killed(place, "add", out, source)
    index = es.open(out)
    assert_same(state(index), new if place in AFTER else old)
    waiting = [] if place == "before the first shard" else [str(source)]
    assert unfinished_adds(out) == waiting == index.info()["unfinished_adds"]
    passes.clear()
    again = index.add(source)
    staged = {"after the first shard": 1, "before the third shard": 2, "before anything is merged": 4}.get(place, 0)
    if place in AFTER:
        assert again.up_to_date and len(passes) == 1, "only the bad one is looked at"
    else:
        assert again.resumed == (staged > 0) and (again.n_new, again.n_replaced, again.n_refreshed) == (5, 2, 2)
        assert len(passes) <= 8 and (len(passes) < 8) == (staged > 0)
    assert_same(state(es.open(out, verify=True)), new)
    assert not unfinished_adds(out) and not list(out.glob("adding-*"))
    assert (out / "skipped.jsonl").read_text() == (whole.path / "skipped.jsonl").read_text()


def test_a_staged_add_outlives_other_changes_and_sees_what_its_source_is_now(
    pictures, passes, emoji, tmp_path, monkeypatch
):
    monkeypatch.setitem(extract.SHARD_SIZES, "image", kc.SHARD)
    out = shutil.copytree(pictures / "index", tmp_path / "index")
    source = shutil.copytree(pictures / "more", tmp_path / "more")
    killed("before anything is merged", "add", out, source)
    index = es.open(out)
    names = sorted(index.ids)
    index.delete([names[0], names[2]])
    index.optimize()
    (tmp_path / "other").mkdir()
    shutil.copy(emoji["google"][50], tmp_path / "other" / "other.png")
    index.add(tmp_path / "other")
    new = sorted(source.glob("new-*"))
    new[0].unlink()
    shutil.copy(emoji["google"][51], new[1])
    passes.clear()
    report = index.add(source)
    assert report.resumed and (report.n_new, report.n_replaced, report.n_refreshed) == (6, 1, 1)
    assert len(passes) == 2, "the one that has changed, and the bad one"
    assert sorted(index.ids) == sorted([*names, "other.png", *(path.name for path in new[1:])])
    for path in source.glob("*.png"):
        if path.name != "bad.png":
            assert index.search(path, k=1)[0].score == pytest.approx(1, abs=1e-5)
            assert path.name in {hit.id for hit in index.search(path, k=2)}
    killed("after the first shard", "add", shutil.copytree(pictures / "index", tmp_path / "anew"), source)
    passes.clear()
    again = es.open(tmp_path / "anew").add(source, restart=True)
    assert not again.resumed and len(passes) == 7
