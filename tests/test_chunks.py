"""Windows of long texts as items of their own."""

import json
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from test_windows import text_of

import embedsearch as es
from embedsearch.engine.building import build_with_report
from embedsearch.errors import UnknownNameError, UsageError
from embedsearch.pipeline.chunks import chunk_ids

SMALL = {"max_tokens": 32, "overlap": 4}


@pytest.fixture
def table(tmp_path):
    """Five texts: two long ones, one whose id looks like that of a chunk."""
    rows = [("a", text_of(100, 1)), ("b", "a short one"), ("a#1", "another"), ("c", text_of(70, 2)), ("d", "the last")]
    path = tmp_path / "texts.jsonl"

    def write(changed=()):
        lines = [{"id": i, "text": text, "year": 2000 + n} for n, (i, text) in enumerate(rows)]
        lines = [{**line, **dict(changed).get(line["id"], {})} for line in lines]
        path.write_text("\n".join(json.dumps(line) for line in lines if line["text"] is not None))
        return path

    return write


@pytest.fixture
def index(table, tmp_path):
    return es.build(table(), tmp_path / "index", long_texts="chunk", **SMALL)


def test_every_window_is_an_item_with_its_place_in_the_text(index, table):
    texts = {row["id"]: row["text"] for row in map(json.loads, table().read_text().splitlines())}
    assert [i for i in index.ids if i.startswith("a#")] == ["a#1", "a#2", "a#3", "a#4", "a#1#1"]
    assert {"b", "d", "c#1", "c#2", "c#3"} < set(index.ids) and len(set(index.ids)) == len(index)
    whole = es.Encoder("minilm", **SMALL)
    for item_id in index.ids:
        found = index.item(item_id).metadata
        part = texts[found["chunk_of"]][found["chunk_start"] : found["chunk_end"]]
        np.testing.assert_allclose(index.vectors([item_id])[0], whole.encode_one(part), atol=1e-5)
    spans = [index.item(f"a#{n}").metadata for n in range(1, 5)]
    assert spans[0]["chunk_start"] == 0 and spans[-1]["chunk_end"] == len(texts["a"])
    assert all(left["chunk_end"] > right["chunk_start"] for left, right in pairwise(spans))
    assert {span["year"] for span in spans} == {2000}
    about = index.info()
    assert about["n_truncated"] == 2 and about["recipe"]["long_texts"] == "chunk"


def test_hits_can_be_grouped_by_text(index):
    flat, grouped = (index.search("the year of the people", k=4, group=group) for group in (False, True))
    texts = [hit.metadata["chunk_of"] for hit in grouped]
    assert len(set(texts)) == 4 and [hit.rank for hit in grouped] == [1, 2, 3, 4] and grouped[0].id == flat[0].id
    every = index.search("the year of the people", k=len(index))
    best = {}
    for hit in every:
        best.setdefault(hit.metadata["chunk_of"], (hit.id, hit.score))
    assert [(hit.id, hit.score) for hit in index.search("the year of the people", k=9, group=True)] == list(
        best.values()
    )
    all_of_them = index.search("the year of the people", k=9, group=True)
    assert all_of_them.note == "5 texts are there to be found, 9 were asked for"
    alike = index.similar("a#2", k=9, group=True)
    assert sorted(hit.metadata["chunk_of"] for hit in alike) == ["a#1", "b", "c", "d"]
    assert [hit.metadata["chunk_of"] for hit in index.search("x", k=2, where="year > 2002", group=True)] != []
    with pytest.raises(UnknownNameError, match="did you mean 'a#"):
        index.similar("a")


def test_grouping_needs_chunks(table, tmp_path):
    plain = es.build(table(), tmp_path / "plain", **SMALL)
    assert sorted(plain.ids) == ["a", "a#1", "b", "c", "d"] and plain.info()["n_truncated"] == 2
    with pytest.raises(UsageError, match="--chunk"):
        plain.search("x", group=True)


def test_a_changed_text_replaces_all_its_chunks_and_nothing_else(index, table, tmp_path):
    out = tmp_path / "index"
    again = build_with_report(table(), out, long_texts="chunk", **SMALL)
    assert again.up_to_date and again.n_known == 5
    before = {i: index.vectors([i])[0] for i in index.ids}
    report = build_with_report(
        table({"a": {"text": text_of(50, 9)}, "d": {"text": None}}), out, long_texts="chunk", **SMALL
    )
    assert (report.n_new, report.n_known, report.n_removed, report.n_truncated) == (1, 3, 1, 2)
    now = es.open(out)
    assert sorted(now.ids) == ["a#1", "a#1#1", "a#2", "b", "c#1", "c#2", "c#3"]
    for item_id in ("b", "c#1", "c#3", "a#1#1"):
        assert np.array_equal(now.vectors([item_id])[0], before[item_id])
    assert not np.array_equal(now.vectors(["a#1"])[0], before["a#1"])
    short = build_with_report(table({"a": {"text": "brief"}}), out, long_texts="chunk", **SMALL)
    assert short.n_new == 2 and "a" in es.open(out).ids and "a#2" not in es.open(out).ids


def test_chunks_are_projected_and_found_again(table, tmp_path):
    index = es.build(table(), tmp_path / "small", long_texts="chunk", whiten=4, **SMALL)
    assert index.dim == 4 and index.search("a short one", k=1)[0].id == "b"


def test_the_ids_of_chunks_never_collide():
    assert chunk_ids("x", 1) == ["x"] and chunk_ids("x", 2) == ["x#1", "x#2"]
    assert chunk_ids("x#1", 1) == ["x#1#1"] and chunk_ids("x#one", 1) == ["x#one"]


def test_a_column_of_the_same_name_is_kept_under_another(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"id": "1", "text": "x", "chunk_of": "mine"}))
    found = es.build(path, tmp_path / "index", long_texts="chunk").search("x")[0].metadata
    assert (found["chunk_of"], found["chunk_of_"]) == ("1", "mine")


def test_an_update_killed_between_old_and_new_chunks_goes_on(table, tmp_path):
    """Chunks are replaced in two commits, so there is a moment in which a text has none in the store."""
    options = {"long_texts": "chunk", **SMALL}
    es.build(table(), tmp_path / "index", **options)
    path = table({"a": {"text": text_of(50, 9)}, "c": {"text": text_of(90, 3)}})
    expected = es.build(path, tmp_path / "expected", **options)
    code = (
        "import killed_build; killed_build.arm('after a deletion'); import embedsearch as es; "
        f"es.build({str(path)!r}, {str(tmp_path / 'index')!r}, **{options!r})"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "a#4" in es.open(tmp_path / "index").ids, "readers still have the generation before"
    report = build_with_report(path, tmp_path / "index", **options)
    assert (report.n_new, report.n_known) == (2, 3)
    ours = es.open(tmp_path / "index")
    assert sorted(ours.ids) == sorted(expected.ids)
    np.testing.assert_allclose(ours.vectors(expected.ids), expected.vectors(expected.ids), atol=1e-6)
