"""Adding, deleting, folding in: what an index holds and answers afterwards, on vectors whose truth numpy knows."""

import errno
import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from changing import assert_holds, index, x  # noqa: F401 - two of them are fixtures

import embedsearch as es
from embedsearch.artifact import write_lock
from embedsearch.engine.building import build_with_report
from embedsearch.errors import (
    ArtifactError,
    EmbedSearchError,
    LockedError,
    UnfinishedBuildError,
    UnknownNameError,
    UsageError,
)
from embedsearch.registry import INDEXES
from embedsearch.store import StoreWriter
from embedsearch.types import Metric


@pytest.mark.parametrize("family", ["flat", "hnsw"])
@pytest.mark.parametrize("metric", list(Metric))
def test_what_is_added_is_found_at_once_and_what_is_deleted_never_again(family, metric, x, tmp_path):
    index = es.build(x[:200], tmp_path / "index", metric=metric.value, index=family)
    exact = family == "flat"
    report = index.add(x[200:260], ids=[f"new{n}" for n in range(40)] + [str(n) for n in range(20)])
    assert (report.n_new, report.n_replaced, report.n_refreshed, report.n_known) == (40, 20, 0, 0)
    ids = [str(n) for n in range(200)] + [f"new{n}" for n in range(40)]
    xb = np.concatenate([x[240:260], x[20:200], x[200:240]])
    assert_holds(index, ids, xb, metric, exact=exact)
    own = index.search(vector=x[203], k=1)[0]
    assert own.id == "new3" or metric is Metric.IP
    gone = ["3", "77", "new3", "199"]
    assert index.delete(gone).n_deleted == 4
    kept = [n for n, item_id in enumerate(ids) if item_id not in gone]
    assert_holds(index, [ids[n] for n in kept], xb[kept], metric, exact=exact)
    everything, _ = index.search_vectors(x[:30], k=len(index))
    assert not set(gone) & set(everything.ravel()) and set(everything[0]) == {ids[n] for n in kept}
    assert index.info()["drift"] == {"n_tail": 58, "n_dead": 22, "n_pieces": 2, "advice": None}
    report = index.optimize()
    assert (report.n_folded, report.n_dropped, report.up_to_date, report.family) == (58, 22, False, family)
    assert index.info()["drift"] == {"n_tail": 0, "n_dead": 0, "n_pieces": 1, "advice": None}
    assert_holds(index, [ids[n] for n in kept], xb[kept], metric, exact=exact)
    assert index.optimize().up_to_date and index.info()["index"]["family"] == family


def test_what_is_there_already_is_no_work(index, x, monkeypatch):
    before = index.info()
    monkeypatch.setattr(StoreWriter, "append_all", None)
    monkeypatch.setattr(StoreWriter, "update", None)
    report = index.add(x[:200], metadata={"n": list(range(200))})
    assert report.up_to_date and report.n_known == 200 and index.info() == before and not index.refresh()


def test_other_metadata_leave_the_vector_in_the_index(index, x):
    report = index.add(x[:3], ids=range(3), metadata={"n": [7, 8, 9], "day": ["mon", None, "wed"]})
    assert (report.n_new, report.n_replaced, report.n_refreshed) == (0, 0, 3)
    assert index.info()["drift"]["n_tail"] == 0 and index.info()["metadata_columns"] == {"n": "int64", "day": "string"}
    assert index.search(vector=x[1], k=1)[0].metadata == {"n": 8, "day": None}
    assert index.search(vector=x[5], k=1)[0].metadata == {"n": 5, "day": None}
    assert [hit.id for hit in index.search(vector=x[0], where="day = 'wed'")] == ["2"]
    assert index.add(x[4:5], ids=["4"]).n_refreshed == 1 and index.item("4").metadata == {"n": 4, "day": None}
    told = {"day": ["sun"]}
    assert index.add(x[4:5], ids=["4"], metadata=told).n_refreshed == 1
    assert index.item("4").metadata == {"n": None, "day": "sun"}


def test_columns_that_do_not_fit_are_named(index, x):
    with pytest.raises(UsageError, match="column 'n' holds string in <array> .'one' at id '1'.*int64 in the index"):
        index.add(x[:2], metadata={"n": [None, "one"]})
    with pytest.raises(UsageError, match="column 'n' holds double"):
        index.add(x[:2], metadata={"n": [1.5, 2.0]})
    assert index.info()["generation"] == 1
    assert index.add(x[200:202], ids=["a", "b"], metadata={"n": pa.array([None, None], pa.string())}).n_new == 2
    assert index.add(x[202:203], ids=["c"], metadata={"n": pa.array([3], pa.int8())}).n_new == 1
    assert index.add(x[203:204], ids=["d"], metadata={"n": pa.array([None], pa.null()), "z": [None]}).n_new == 1
    assert index.item("c").metadata == {"n": 3} and index.info()["metadata_columns"] == {"n": "int64"}
    index.add(x[204:205], ids=["e"], metadata={"price": [1.5], "code": ["x1"]})
    index.add(x[205:206], ids=["f"], metadata={"price": [2], "code": [12]})
    assert index.item("f").metadata == {"n": None, "price": 2.0, "code": "12"}
    with pytest.raises(UsageError, match="column 'price' holds what double cannot keep"):
        index.add(x[206:207], ids=["g"], metadata={"price": [2**60 + 1]})
    assert "g" not in index.ids and len(es.open(index.path, verify=True)) == 206


def test_deleting_by_condition_and_what_is_wrong_with_it(index):
    assert index.delete(where="n >= 150 AND n < 160").n_deleted == 10
    assert index.delete(["0", "0", "1"], where="n < 3").n_deleted == 3, "an item is counted once"
    assert index.delete("3").n_deleted == 1
    before = index.info()
    with pytest.raises(UnknownNameError, match="id '155' is not known.*nothing was deleted"):
        index.delete(["10", "155"])
    with pytest.raises(UnknownNameError, match="3 ids are not in .*: '0', '1', 'x'; nothing was deleted"):
        index.delete(["0", "1", "x", "20"], where="n < 100")
    with pytest.raises(UsageError, match="where 'm = 1' is not understood.*columns: id, n"):
        index.delete(["10"], where="m = 1")
    with pytest.raises(UsageError, match="nothing is asked to be deleted"):
        index.delete()
    assert index.delete(where="n = 1000").n_deleted == 0
    assert index.info() == before and len(index) == 186
    assert index.delete([11, np.int64(12)]).n_deleted == 2, "ids are written as text"


def test_an_index_may_be_emptied_and_filled_again(index, x):
    assert index.delete(where="true").n_deleted == 200 and len(index) == 0
    assert index.search(vector=x[0]) == [] and index.search(vector=x[0]).note == "the index is empty"
    assert index.search_vectors(x[:3])[0].shape == (3, 0) and index.ids == []
    with pytest.raises(UnknownNameError, match="there are none"):
        index.similar("0")
    assert index.add(x[:5]).n_new == 5
    assert_holds(index, list("01234"), x[:5], k=3)
    index.delete(where="true")
    assert index.optimize().n_items == 0 and len(es.open(index.path, verify=True)) == 0
    assert index.search(vector=x[0]).note == "the index is empty"
    index.add(x[:5])
    assert_holds(index, list("01234"), x[:5], k=3)


@pytest.mark.parametrize("family", sorted({*INDEXES} - {"factory"}))
def test_every_family_may_be_emptied(family, x, tmp_path):
    index = es.build(x, tmp_path / "index", index=family)
    index.delete(where="true")
    assert index.optimize().family == "flat" and index.search(vector=x[0]).note == "the index is empty"
    index.add(x)
    assert index.optimize().family == family, "what was asked for is not forgotten"
    assert "7" in {hit.id for hit in index.search(vector=x[7], k=10)}


@pytest.mark.parametrize("options", [{"whiten": 4}, {"pca": 5, "metric": "l2"}, {"metric": "ip"}])
def test_what_is_added_goes_the_way_of_the_others(options, x, tmp_path):
    whole = es.build(x, tmp_path / "whole", **options)
    index = es.build(x[:200], tmp_path / "index", **options)
    projected = index.vectors([str(n) for n in range(200)])
    index.add(x[200:], ids=[str(n) for n in range(200, 300)])
    np.testing.assert_array_equal(index.vectors([str(n) for n in range(200)]), projected)
    assert index.dim == whole.dim and len(index) == 300
    for n in (3, 203, 299):
        assert index.search(vector=x[n], k=1)[0].id == str(n) or options.get("metric") == "ip"
    wide = 12 if "whiten" in options or "pca" in options else index.dim
    with pytest.raises(UsageError, match=f"vectors of 7 dimensions, those of .* have {wide}"):
        index.add(x[:, :7])
    with pytest.raises(UsageError, match="ids were given for"):
        index.add(x[:3], ids=["a"])


def test_what_cannot_be_added_is_told_and_the_rest_is_not(index, x, tmp_path):
    bad = x[200:205].copy()
    bad[2, 3] = np.nan
    report = index.add(bad, ids=["a", "b", "c", "a", "1"])
    assert (report.n_new, report.n_replaced, report.n_skipped) == (2, 1, 2)
    lines = [json.loads(line) for line in (index.path / "skipped.jsonl").read_text().splitlines()]
    assert {line["id"]: line["reason"] for line in lines} == {
        "c": "the vector holds NaN or infinity",
        "a": "duplicate id: an earlier input has it",
    }
    assert all(line["added_from"] == "<array>" for line in lines) and index.info()["n_skipped"] == 2
    assert index.add(x[:2] * np.nan, ids=["1", "q"]).up_to_date and "1" in index.ids, "what is held stays"
    (tmp_path / "t.txt").write_text("one\n")
    with pytest.raises(EmbedSearchError, match="holds texts, .* holds vectors"):
        index.add(tmp_path / "t.txt")
    with pytest.raises(EmbedSearchError, match="does not exist"):
        index.add(tmp_path / "nothing.npy")
    with pytest.raises(ArtifactError, match="no index at"):
        index.path.rename(tmp_path / "away")
        index.add(x[:1])
    assert not index.path.exists()


def test_tables_and_files_of_vectors_can_be_added(index, x, tmp_path):
    np.save(tmp_path / "more.npy", x[200:203])
    (tmp_path / "ids.txt").write_text("a\nb\nc\n")
    assert index.add(tmp_path / "more.npy", ids=tmp_path / "ids.txt").n_new == 3
    assert index.add(es.EmbeddingTable(x[203:205], ["d", "e"])).n_new == 2
    with pytest.raises(UsageError, match="has no ids of its own"):
        index.add(tmp_path / "more.npy")
    assert index.add(tmp_path / "more.npy", ids=range(3)).n_replaced == 3
    assert {"a", "e"} < set(index.ids) and len(index) == 205


def test_a_build_leaves_what_was_added_from_elsewhere(x, tmp_path):
    np.save(tmp_path / "own.npy", x[:50])
    np.save(tmp_path / "more.npy", x[50:60])
    (tmp_path / "ids.txt").write_text("".join(f"m{n}\n" for n in range(8)) + "3\n4\n")
    (tmp_path / "own.txt").write_text("".join(f"{n}\n" for n in range(50)))
    out = tmp_path / "index"
    index = es.build(tmp_path / "own.npy", out, ids=tmp_path / "own.txt")
    index.add(tmp_path / "more.npy", ids=tmp_path / "ids.txt")
    with pytest.raises(UsageError, match="has no ids of its own"):
        es.build(tmp_path / "own.npy", out)
    report = build_with_report(tmp_path / "own.npy", out, ids=tmp_path / "own.txt")
    assert report.n_new == 2, "an id that both have is the build's own again"
    np.save(tmp_path / "own.npy", x[:40])
    report = build_with_report(tmp_path / "own.npy", out)
    assert (report.n_removed, report.n_guests, report.n_items) == (10, 8, 48)
    index.refresh()
    assert_holds(index, [str(n) for n in range(40)] + [f"m{n}" for n in range(8)], np.concatenate([x[:40], x[50:58]]))
    assert build_with_report(tmp_path / "own.npy", out).up_to_date
    index.add(tmp_path / "own.npy")
    np.save(tmp_path / "own.npy", x[:41])
    assert index.add(tmp_path / "own.npy").n_new == 1
    np.save(tmp_path / "own.npy", x[:30])
    report = build_with_report(tmp_path / "own.npy", out)
    assert (report.n_removed, report.n_guests) == (11, 8), "an add of the build's own source is the build's own"
    assert index.refresh() and len(index) == 38
    assert index.delete(where="added_from IS NOT NULL").n_deleted == 8


def test_memory_tells_nothing_of_where_rows_come_from(x, tmp_path):
    index = es.build(x[:10], tmp_path / "index")
    index.add(x[10:12], ids=["a", "b"])
    report = build_with_report(x[:9], tmp_path / "index")
    assert (report.n_removed, report.n_guests, report.n_items) == (1, 2, 11)


def test_one_writer_at_a_time(index, x):
    with write_lock(index.path):
        for change in (lambda: index.add(x[:1]), lambda: index.delete(["1"]), index.optimize):
            with pytest.raises(LockedError, match="another process"):
                change()
    assert index.delete(["1"]).n_deleted == 1


def test_an_unfinished_build_comes_first(x, tmp_path, monkeypatch):
    monkeypatch.setattr("embedsearch.pipeline.extract.SHARD_SIZES", {"vector": 10})
    index = es.build(x[:20], tmp_path / "index")
    real, calls = StoreWriter.write, []

    def full(self, table):
        calls.append(table)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, table)

    monkeypatch.setattr(StoreWriter, "write", full)
    with pytest.raises(OSError, match="No space left"):
        es.build(x, tmp_path / "index")
    monkeypatch.setattr(StoreWriter, "write", real)
    for change in (lambda: index.add(x[:1], ids=["a"]), lambda: index.delete(["1"]), index.optimize):
        with pytest.raises(UnfinishedBuildError, match="run its build command again to finish it"):
            change()
    given_up = es.open(shutil.copytree(tmp_path / "index", tmp_path / "given-up"))
    (given_up.path / "build.json").unlink()
    assert given_up.add(x[:1], ids=["a"]).n_items == 21 and given_up.optimize().n_items == 21
    assert_holds(es.open(given_up.path, verify=True), [*map(str, range(20)), "a"], np.concatenate([x[:20], x[:1]]))
    assert build_with_report(x, tmp_path / "index").resumed and index.refresh() and len(index) == 300
    assert index.delete(["1"]).n_deleted == 1
    with pytest.raises(EmbedSearchError):
        es.build(x, tmp_path / "index", pca=400, restart=True)
    assert index.delete(["2"]).n_deleted == 1, "a build that failed before its first row blocks nothing"


def test_a_full_disk_leaves_the_index_as_it_was(index, x, monkeypatch):
    before = index.info()
    for name in ("append_all", "delete_rows"):
        with monkeypatch.context() as patch:
            patch.setattr(StoreWriter, name, lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
            with pytest.raises(OSError, match="No space left"):
                index.add(x[200:210], ids=range(10))
        assert es.open(index.path, verify=True).info() == before
    assert index.add(x[200:210], ids=range(10)).n_replaced == 10


def test_a_really_full_disk(index, x, tmp_path):
    np.save(tmp_path / "more.npy", np.concatenate([x] * 20))
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))\n"
        "from embedsearch.cli.main import run; run(sys.argv[2:])"
    )
    arguments = ["add", str(index.path), str(tmp_path / "more.npy"), "--id-prefix", "m"]
    done = subprocess.run([sys.executable, "-c", code, "20000", *arguments], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert len(es.open(index.path, verify=True)) == 200 and len(index) == 200
    assert index.add(tmp_path / "more.npy", id_prefix="m").n_items == 6200


def test_a_source_without_metadata_leaves_what_is_known(index, x):
    report = index.add(np.concatenate([x[:3], x[250:251]]), ids=["0", "1", "2", "new"])
    assert (report.n_new, report.n_refreshed, report.n_replaced) == (1, 3, 0)
    assert [index.item(str(n)).metadata["n"] for n in range(4)] == [0, 1, 2, 3]
    assert index.item("new").metadata["n"] is None
    index.add(x[1:2] + 1, ids=["1"])
    assert index.item("1").metadata["n"] is None, "another thing"
    assert index.add(x[2:3], ids=["2"], metadata={"m": [5]}).n_refreshed == 1
    assert index.item("2").metadata == {"n": None, "m": 5}
