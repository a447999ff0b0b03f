"""Who reads an index, and what it is read from, while it changes."""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from changing import assert_holds, index, x  # noqa: F401 - two of them are fixtures

import embedsearch as es
from embedsearch.errors import DamagedIndexError, OutdatedReaderError
from embedsearch.pipeline import advice


def test_readers_in_other_processes_go_on_with_their_generation(index, x, tmp_path):
    code = """
import sys, numpy as np, embedsearch as es
index = es.open(sys.argv[1])
print("open", flush=True)
for line in sys.stdin:
    if line == "refresh\\n":
        print(index.refresh(), flush=True)
    x = np.load(sys.argv[2])
    ids, scores = index.search_vectors(x, k=len(index))
    vectors = index.vectors(index.ids)
    hits = index.search(vector=x[0], k=3)
    print(len(index), len(set(ids.ravel())), len(vectors), [hit.metadata["n"] for hit in hits], flush=True)
"""
    np.save(tmp_path / "q.npy", x[:3])
    command = [sys.executable, "-c", code, str(index.path), str(tmp_path / "q.npy")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:

        def ask(line="go"):
            reader.stdin.write(line + "\n")
            reader.stdin.flush()
            return reader.stdout.readline().strip()

        assert reader.stdout.readline() == "open\n"
        first = ask()
        assert first.startswith("200 200 200 [0, ")
        index.add(x[200:250], ids=[f"a{n}" for n in range(50)])
        index.delete(["0"])
        assert ask() == first
        index.optimize()
        assert ask() == first
        assert ask("refresh") == "True" and reader.stdout.readline().startswith("249 249 249")
        assert ask("refresh") == "False"
        reader.stdout.readline()
        reader.stdin.close()


def test_readers_of_every_state_since_the_index_file_before_outlive_an_optimize(index, x):
    readers = [es.open(index.path)]
    for n in range(5):
        index.add(x[200 + n : 201 + n], ids=[f"a{n}"])
        index.delete([str(n)])
        readers.append(es.open(index.path))
    index.optimize()
    for n, reader in enumerate(readers):
        expected = [str(i) for i in range(n, 200)] + [f"a{i}" for i in range(n)]
        assert_holds(reader, expected, np.concatenate([x[n:200], x[200 : 200 + n]]))
        assert reader.item("100").metadata == {"n": 100} and reader.vectors(reader.ids).shape == (200, 12)
    versions = len(list((index.path / "items.lance" / "_versions").glob("*.manifest")))
    index.delete(["100"])
    index.optimize()
    assert len(list((index.path / "items.lance" / "_versions").glob("*.manifest"))) < versions
    assert len(list(index.path.glob("index-*.rows"))) == 2


@pytest.mark.parametrize("family", ["flat", "ivf", "graph", "hnsw"])
def test_a_reader_of_what_was_removed_is_told_to_refresh(x, tmp_path, family):
    root = tmp_path / "index"
    index = es.build(x[:200], root, metadata={"n": list(range(200))}, index=family, recall=0.5)
    reader, cold = es.open(root), es.open(root)
    ids, _ = reader.search_vectors(x[:4], k=3)
    for n in range(2):
        index.add(x[200 + n : 201 + n], ids=[f"a{n}"], metadata={"n": [-1]})
        index.optimize()
    for ask in (
        lambda: cold.search(vector=x[0]),
        lambda: cold.search(vector=x[0], where="n < 5"),
        lambda: reader.search_vectors(x[:1], where="n < 5"),
        lambda: cold.similar("7"),
        lambda: reader.vectors(["7"]),
        lambda: reader.item("7"),
        lambda: cold.ids,
        cold.info,
    ):
        with pytest.raises(OutdatedReaderError, match=r"index has been rebuilt since it was opened.*refresh\(\)"):
            ask()
    again, _ = reader.search_vectors(x[:4], k=3)
    np.testing.assert_array_equal(again, ids, "what needs no file that is gone goes on")
    assert cold.refresh() and reader.refresh()
    assert cold.search(vector=x[201], k=1)[0].id == "a1" and "a0" in reader.ids
    assert len(reader.search(vector=x[0], where="n BETWEEN 0 AND 4")) == 5


def test_a_reader_whose_projection_was_removed_is_told_to_refresh(x, tmp_path):
    es.build(x, tmp_path / "index", pca=4)
    reader = es.open(tmp_path / "index")
    for dim in (5, 6):
        es.build(x, tmp_path / "index", pca=dim, restart=True)
    with pytest.raises(OutdatedReaderError, match=r"refresh\(\)"):
        reader.search(vector=x[7])
    assert reader.refresh() and reader.dim == 6 and reader.search(vector=x[7], k=1)[0].id == "7"


def test_a_reader_of_a_folder_that_another_index_took_is_told_so(index, x):
    reader = es.open(index.path)
    shutil.rmtree(index.path)
    with pytest.raises(DamagedIndexError, match="Not found"):
        reader.search(vector=x[0])
    es.build(x[:50], index.path)
    with pytest.raises(OutdatedReaderError, match=r"refresh\(\)"):
        reader.search(vector=x[0])
    assert reader.refresh() and len(reader.search(vector=x[0])) == 10


def test_a_condition_over_a_file_that_is_lost_is_damage_and_no_wrong_condition(index, x):
    for data in (index.path / "items.lance" / "data").iterdir():
        data.unlink()
    with pytest.raises(DamagedIndexError, match="cannot be read"):
        index.search(vector=x[0], where="n < 5")


def test_searches_go_on_while_an_index_changes(index, x):
    failures, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            try:
                hits = index.search(vector=x[50], k=5)
                assert hits[0].id == "50" and len(hits) == 5
                assert len(index.similar_many(["50", "60"], k=3)) == 2
                ids, _ = index.search_vectors(x[:4], k=200)
                assert None not in set(ids.ravel())
            except Exception as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(6):
        index.add(x[200 + n : 210 + n], ids=[f"{n}-{i}" for i in range(10)])
        index.delete([f"{n}-3", str(n)])
        if n % 3 == 2:
            index.optimize()
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def test_damaged_row_ids_are_noticed(index, x):
    index.delete(["5"])
    rows = next(index.path.glob("*.rows"))
    content = bytearray(rows.read_bytes())
    content[-8] ^= 1
    rows.write_bytes(content)
    with pytest.raises(DamagedIndexError, match=r"index-000001.rows is not what was written"):
        es.open(index.path)
    with pytest.raises(DamagedIndexError):
        index.optimize()
    rows.unlink()
    with pytest.raises(DamagedIndexError, match="is missing"):
        index.add(x[:1])
    assert index.search(vector=x[7], k=1)[0].id == "7", "what is open goes on"


def test_an_add_reads_no_file_that_was_committed_before(index, x, monkeypatch):
    from embedsearch.artifact import verify

    index.add(x[200:210], ids=[f"a{n}" for n in range(10)])
    old = set(json.loads((index.path / "manifest.json").read_text())["files"])
    read, real = [], verify._xxh3
    monkeypatch.setattr(verify, "_xxh3", lambda path: read.append(path) or real(path))
    index.add(x[210:211], ids=["b"])
    index.delete(["5"])
    assert read and not {path.relative_to(index.path).as_posix() for path in read} & old


def test_an_index_of_an_older_format_can_be_changed(tmp_path):
    x = (np.arange(48, dtype=np.float32).reshape(12, 4) % 7 - 3).astype(np.float32)
    for version in (1, 2):
        root = shutil.copytree(Path(__file__).parent / "data" / f"format-{version}", tmp_path / str(version))
        index = es.open(root)
        before = {item_id: index.vectors([item_id]) for item_id in index.ids}
        assert index.delete(["item-3"]).n_items == 11 and index.info()["format_version"] == 3
        assert index.add(x[[5, 8]] + 1, ids=["item-5", "new"], metadata={"n": [50, 80]}).n_new == 1
        again = es.open(root, verify=True)
        assert len(again) == 12 and again.item("item-5").metadata == {"n": 50, "name": None}
        assert again.search(vector=x[8] + 1, k=1)[0].id == "new"
        for item_id in set(before) - {"item-3", "item-5"}:
            np.testing.assert_array_equal(again.vectors([item_id]), before[item_id])
        assert index.optimize().n_folded == 2 and len(es.open(root, verify=True)) == 12


def test_when_an_optimize_is_advised(x, tmp_path, monkeypatch):
    monkeypatch.setattr(advice, "MIN_ROWS", 10)
    index = es.build(x[:100], tmp_path / "index", index="hnsw")
    assert index.add(x[100:110], ids=[f"a{n}" for n in range(10)]).advice is None
    report = index.add(x[110:114], ids=[f"b{n}" for n in range(4)])
    assert report.advice == index.info()["drift"]["advice"] == "12% of the items are new and searched exactly"
    index.optimize()
    assert "25 places" in index.delete([str(n) for n in range(25)]).advice
    index.optimize()
    monkeypatch.setattr(advice, "MAX_PIECES", 3)
    for n in range(3):
        last = index.add(x[200 + n : 201 + n], ids=[f"c{n}"])
    assert last.advice == "the store is in 4 pieces"
    flat = es.build(x[:100], tmp_path / "flat")
    assert flat.add(x[100:150], ids=[f"a{n}" for n in range(50)]).advice is None


def test_promises_that_additions_break_are_told(x, tmp_path):
    index = es.build(x[:100], tmp_path / "m", memory=100 * x.shape[1] * 4)
    told = index.add(x[100:150], ids=[f"a{n}" for n in range(50)]).advice
    assert told is not None and told.startswith("with 50 new items it takes") and "were promised" in told
    slow = es.build(x[:100], tmp_path / "l", latency_ms=1000)
    assert slow.add(x[100:150], ids=[f"a{n}" for n in range(50)]).advice is None


def test_refresh_tells_whether_it_went_on(index, x):
    other = es.open(index.path)
    assert not other.refresh()
    index.add(x[200:201], ids=["a"])
    assert "a" not in other.ids and other.refresh() and "a" in other.ids and not other.refresh()
    same_index = other._searcher.main
    index.delete(["a"])
    assert other.refresh() and other._searcher.main is same_index, "the index file is not read again"
    index.optimize()
    assert other.refresh() and other._searcher.main is not same_index
    es.build(x[:50, :6], index.path, restart=True)
    assert other.refresh() and other.dim == 6 and len(other) == 50
