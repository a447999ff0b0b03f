"""An index over the rows of an embedding table, kept in line with the table; and over arrays a network reads."""

import numpy as np
import pytest
import torch
from oracle import assert_is_best
from safetensors.numpy import save_file

import embedsearch as es
from embedsearch.engine.building import build_with_report
from embedsearch.engine.inputs import _table_in
from embedsearch.errors import SourceError, UsageError


@pytest.fixture
def rows(rng):
    return rng.normal(size=(40, 6)).astype(np.float32)


def test_the_rows_of_a_checkpoint_are_searchable_by_their_ids(rows, tmp_path):
    torch.save(
        {"state_dict": {"item_embedding.weight": torch.from_numpy(rows), "bias": torch.ones(3)}}, tmp_path / "m.pt"
    )
    (tmp_path / "ids.txt").write_text("".join(f"sku-{i}\n" for i in range(40)))
    index = es.build(f"{tmp_path}/m.pt::item_embedding.weight", tmp_path / "i", ids=tmp_path / "ids.txt")
    assert index.ids == [f"sku-{i}" for i in range(40)] and index.info()["source"].endswith(
        "m.pt::item_embedding.weight"
    )
    found, scores = index.search_vectors(rows[:5], k=4)
    numbers = np.array([[int(i.removeprefix("sku-")) for i in row] for row in found])
    assert_is_best(numbers, scores, rows[:5], rows, "cosine", 4)
    with pytest.raises(UsageError, match=r"it offers: item_embedding\.weight \(40 x 6\)"):
        es.build(tmp_path / "m.pt", tmp_path / "j")


@pytest.mark.parametrize(
    ("source", "table"),
    [
        ("model.pt::emb.weight", ("model.pt", "emb.weight")),
        ("model.pt::", ("model.pt", None)),
        ("model.pt", ("model.pt", None)),
        ("MODEL.PT", ("MODEL.PT", None)),
        ("vectors.vec.gz", ("vectors.vec.gz", None)),
        ("rows.npy::x", ("rows.npy", "x")),
        ("s3://b/model.npz", ("s3://b/model.npz", None)),
        ("s3://b/model.npz::emb", ("s3://b/model.npz", "emb")),
        ("simplecache::s3://b/model.npz", ("simplecache::s3://b/model.npz", None)),
        ("simplecache::s3://b/model.npz::emb", ("simplecache::s3://b/model.npz", "emb")),
        ("simplecache::s3://b/rows.npy", None),
        ("zip://*.png::s3://b/photos.zip", None),
        ("a::b.csv", None),
        ("photos", None),
        ("rows.npy", None),
        ("lines.txt", None),
    ],
)
def test_a_parameter_is_told_from_a_chained_url(source, table):
    assert _table_in(source) == table


def test_a_table_behind_a_chained_url_is_read(rows, tmp_path):
    np.savez(tmp_path / "t.npz", emb=rows)
    url = f"simplecache::file://{tmp_path}/t.npz"
    assert len(es.build(f"{url}::emb", tmp_path / "i")) == 40
    with pytest.raises(UsageError, match=r"it offers: emb \(40 x 6\)"):
        es.build(url, tmp_path / "j")


def test_only_changed_rows_are_refreshed(rows, tmp_path):
    save_file({"emb": rows}, tmp_path / "t.safetensors")
    table = es.EmbeddingTable.load(tmp_path / "t.safetensors", "emb")
    index = es.build(table, tmp_path / "i", metric="ip")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "i" / "items.lance" / "data").iterdir()}
    table.assign([3, 17], np.full((2, 6), 0.5, np.float32))
    report = build_with_report(table, tmp_path / "i", metric="ip")
    assert (report.n_new, report.n_known, report.n_removed) == (2, 38, 0)
    assert stamps
    now = es.open(tmp_path / "i")
    expected = rows.copy()
    expected[[3, 17]] = 0.5
    np.testing.assert_array_equal(now.vectors([str(i) for i in range(40)]), expected)
    found, scores = now.search_vectors(expected[:7], k=5)
    assert_is_best(found.astype(int), scores, expected[:7], expected, "ip", 5)
    assert np.array_equal(index.vectors(["3"])[0], rows[3]), "what is open stays what it was"
    assert build_with_report(table, tmp_path / "i", metric="ip").up_to_date


def test_refreshing_keeps_a_fitted_projection(rows, tmp_path):
    table = es.EmbeddingTable(rows, [f"w{i}" for i in range(40)])
    index = es.build(table, tmp_path / "i", whiten=3)
    before = index.vectors(["w5"])
    table.assign(["w9"], rows[5:6])
    now = es.build(table, tmp_path / "i", whiten=3)
    np.testing.assert_array_equal(now.vectors(["w5"]), before)
    np.testing.assert_allclose(now.vectors(["w9"]), before, atol=1e-6)


def test_metadata_go_with_the_rows_of_a_table(rows, tmp_path):
    np.savez(tmp_path / "t.npz", emb=rows)
    index = es.build(f"{tmp_path}/t.npz::emb", tmp_path / "i", metadata={"price": np.arange(40)})
    assert {hit.metadata["price"] for hit in index.similar("7", k=3, where="price < 9")} <= set(range(9))
    with pytest.raises(UsageError, match="39 ids"):
        es.build(f"{tmp_path}/t.npz::emb", tmp_path / "j", ids=[str(i) for i in range(39)])


def test_words_are_the_ids_of_word_vectors(tmp_path):
    (tmp_path / "words.vec").write_text("3 2\nking 1 0\nqueen 0.9 0.1\napple 0 1\n")
    index = es.build(tmp_path / "words.vec", tmp_path / "i")
    assert [hit.id for hit in index.similar("king", k=2)] == ["queen", "apple"]
    text = tmp_path / "words.txt"
    text.write_text((tmp_path / "words.vec").read_text())
    assert es.build(f"{text}::vectors", tmp_path / "j").ids == ["king", "queen", "apple"]


def test_word_vectors_are_not_taken_for_sentences(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("".join(f"{word} {' '.join(['0.25'] * 12)}\n" for word in ("the", "of", "and")))
    with pytest.raises(UsageError, match=r"glove\.txt::vectors.*--modality text"):
        es.build(path, tmp_path / "i")
    assert es.build(f"{path}::vectors", tmp_path / "i").ids == ["the", "of", "and"]
    assert es.build(path, tmp_path / "j", modality="text").ids == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [(b"a\n\nb\n", "no id in line 2"), (b"a\n\xff\n", "not UTF-8 in line 2"), (None, "does not exist")],
)
def test_a_broken_file_of_ids_is_told(ids, message, rows, tmp_path):
    if ids is not None:
        (tmp_path / "ids.txt").write_bytes(ids)
    with pytest.raises(SourceError, match=message):
        es.build(rows, tmp_path / "i", ids=tmp_path / "ids.txt")


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))


def test_arrays_that_a_network_reads_are_indexed_through_it(rows, tmp_path):
    module = net()
    index = es.build(rows, tmp_path / "i", backbone=module, layer="1", ids=[f"r{i}" for i in range(40)])
    with torch.no_grad():
        plain = module[:2](torch.from_numpy(rows)).numpy()
    expected = plain / np.maximum(np.linalg.norm(plain, axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(index.vectors(index.ids), expected, atol=1e-6)
    assert index.search(rows[4], k=1)[0].score == pytest.approx(1, abs=1e-5)
    report = build_with_report(rows, tmp_path / "i", backbone=module, layer="1", ids=[f"r{i}" for i in range(40)])
    assert report.up_to_date
    changed = rows.copy()
    changed[[1, 2]] *= -1
    changed[3, 0] = np.nan
    report = build_with_report(changed, tmp_path / "i", backbone=module, layer="1", ids=[f"r{i}" for i in range(40)])
    assert (report.n_new, report.n_known, report.n_removed, report.n_skipped) == (2, 37, 1, 1)


def test_arrays_of_pictures_are_read_as_pictures(tmp_path, rng):
    pictures = rng.integers(0, 256, (5, 70, 64, 3), dtype=np.uint8)
    np.save(tmp_path / "p.npy", pictures)
    index = es.build(tmp_path / "p.npy", tmp_path / "i", backbone="vgg16", weights="packaged", size=64)
    assert index.ids == ["0", "1", "2", "3", "4"] and index.search(pictures[2], k=1)[0].id == "2"


def test_without_a_network_an_array_holds_vectors(rows, tmp_path):
    np.save(tmp_path / "v.npy", rows)
    assert es.build(tmp_path / "v.npy", tmp_path / "i").info()["recipe"]["modality"] == "vector"
    with pytest.raises(UsageError, match="vectors already"):
        es.build(tmp_path / "v.npy", tmp_path / "j", layer="1")
    with pytest.raises(UsageError, match="reads texts"):
        es.build(tmp_path / "v.npy", tmp_path / "j", backbone="minilm")
    with pytest.raises(UsageError, match="vectors already"):
        es.build(es.EmbeddingTable(rows), tmp_path / "j", backbone=net())
