"""What is near every row, kept beside the index: the same answers with it and without, whatever happens to the
index."""

import numpy as np
import pytest

import embedsearch as es
from embedsearch.artifact import read_manifest
from embedsearch.errors import DamagedIndexError, LockedError, UsageError
from embedsearch.pipeline.recommend.neighbours import NeighbourLists

HISTORIES = [["3", "4", "90"], ["7"], [str(n) for n in range(100, 160)], ["new-1", "5"]]


@pytest.fixture(params=["flat", "graph"])
def index(request, clusters, tmp_path):
    return es.build(clusters, tmp_path / "x", index=request.param)


def answers(path, histories, strategy):
    found = es.Recommender(es.open(path)).recommend_many(histories, k=12, strategy=strategy)
    return found.ids.tolist(), found.scores


@pytest.fixture
def searches(monkeypatch):
    """How many rows were searched for their neighbours."""
    counted = [0]
    plain = NeighbourLists.searched

    def searched(self, rows, *arguments):
        counted[0] += len(rows)
        return plain(self, rows, *arguments)

    monkeypatch.setattr(NeighbourLists, "searched", searched)
    return counted


def assert_same(path, histories, searches, most=0):
    """With the file and without it; at most so many rows are searched with it."""
    for strategy in ("agreement", "max"):
        searches[0] = 0
        ids, scores = answers(path, histories, strategy)
        assert searches[0] <= most
        manifest = read_manifest(path)
        name = f"{manifest.index.file}.neighbours"
        held = manifest.files.pop(name)
        opened = es.open(path)
        opened._searcher.manifest.files.pop(name)
        plain = es.Recommender(opened).recommend_many(histories, k=12, strategy=strategy)
        assert searches[0] > most and held.size > 0
        np.testing.assert_allclose(scores, plain.scores, atol=1e-5)
        assert np.mean(np.array(ids) == plain.ids) > 0.98  # what is level may change places


def test_the_same_with_it_and_without(index, searches):
    before = read_manifest(index.path)
    assert es.Recommender(index).save_neighbours() == 600
    after = read_manifest(index.path)
    assert after.generation == before.generation + 1
    assert set(after.files) - set(before.files) == {f"{after.index.file}.neighbours"}
    assert_same(index.path, HISTORIES[:3], searches)
    assert es.Recommender(index).save_neighbours() == 600  # nothing more to do
    assert read_manifest(index.path) == after
    assert es.open(index.path, verify=True).info()["n_items"] == 600


def test_it_outlives_additions_and_deletions(index, clusters, searches):
    es.Recommender(index).save_neighbours()
    near = index.similar("3", k=4)
    index.delete([near[0].id, near[2].id])
    new = np.concatenate([clusters[[3]] * 1.01, clusters[:40] + 0.05])
    index.add(new, ids=[f"new-{n}" for n in range(41)])
    replaced = clusters[[4]] * -1
    index.add(replaced, ids=["4"])
    assert_same(index.path, HISTORIES, searches, most=2)  # those that came since have no list
    assert es.Recommender(index).similar_items("3", k=1).ids.tolist() == ["new-0"]
    index.delete([hit.id for hit in index.similar("7", k=25)])
    assert_same(index.path, [["7"]], searches, most=1)  # too much of its list is gone
    index.optimize()
    index.delete(["8"])
    with pytest.raises(UsageError, match="optimize it first"):
        es.Recommender(index).save_neighbours()


def test_it_goes_with_its_index_file(index, searches):
    rec = es.Recommender(index)
    rec.save_neighbours()
    index.delete(["9"])
    index.optimize()
    assert not any(name.endswith(".neighbours") for name in read_manifest(index.path).files)
    rec.save_neighbours()
    index.delete(["10"])
    index.optimize()
    kept = list(index.path.glob("*.neighbours"))
    assert len(kept) == 1  # of the generation before, which readers may still hold
    index.delete(["11"])
    index.optimize()
    assert not list(index.path.glob("*.neighbours"))


def test_damage_is_found(index):
    es.Recommender(index).save_neighbours()
    (path,) = index.path.glob("*.neighbours")
    whole = path.read_bytes()
    path.write_bytes(whole[:-8] + b"12345678")
    with pytest.raises(DamagedIndexError, match="neighbours is not what was written"):
        es.open(index.path)
    path.write_bytes(whole[:-9])
    with pytest.raises(DamagedIndexError, match="neighbours has"):
        es.open(index.path)
    path.unlink()
    with pytest.raises(DamagedIndexError, match="neighbours is missing"):
        es.open(index.path)


def test_a_crash_before_the_commit_changes_nothing(index, monkeypatch):
    """Whatever was written by then is in nobody's way, and the next try replaces it."""
    before = read_manifest(index.path)
    monkeypatch.setattr("embedsearch.pipeline.recommend.saved.write_manifest", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        es.Recommender(index).save_neighbours()
    monkeypatch.undo()
    assert read_manifest(index.path) == before
    assert es.open(index.path).similar("3", k=2)
    assert es.Recommender(index).save_neighbours() == 600
    assert es.open(index.path, verify=True)


def test_one_writer_at_a_time(index):
    from embedsearch.artifact import write_lock

    with write_lock(index.path), pytest.raises(LockedError):
        es.Recommender(index).save_neighbours()


def test_lists_are_searched_once(index, searches):
    rec = es.Recommender(index)
    rec.recommend(["3", "4"], strategy="max")
    assert searches[0] == 2
    rec.recommend(["3", "4", "5"], strategy="agreement")
    assert searches[0] == 3


def test_tiny_and_empty(tmp_path, clusters):
    for n in (0, 1, 5):
        rec = es.Recommender(es.build(clusters[:n], tmp_path / str(n)))
        assert rec.save_neighbours() == n
        again = es.Recommender(es.open(tmp_path / str(n)))
        found = again.recommend_many([["0"]] * min(n, 1), k=3, strategy="agreement")
        assert found.ids.shape == (min(n, 1), min(n, 3))
        assert (found.ids != None).sum() == max(min(n - 1, 3), 0)  # noqa: E711
