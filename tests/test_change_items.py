"""Adding pictures, texts and chunks: what goes through the network, and what is left as it is."""

import json
import os
import shutil

import numpy as np
import pytest
from builds import VGG, skipped
from test_change_killed import passes  # noqa: F401 - a fixture
from test_windows import text_of

import embedsearch as es
from embedsearch.artifact.adding import Adding
from embedsearch.engine.building import build_with_report
from embedsearch.errors import ContradictionError, EmbedSearchError, SourceError, UnknownNameError, UsageError

SMALL = {"max_tokens": 32, "overlap": 4}


@pytest.fixture
def index(folder, tmp_path):
    return es.build(folder, tmp_path / "index", **VGG)


def test_only_what_is_new_or_changed_goes_through_the_network(index, folder, emoji, passes):
    names = sorted(path.name for path in folder.iterdir())
    passes.clear()
    report = index.add(folder)
    assert report.up_to_date and report.n_known == 10 and not passes and index.info()["generation"] == 1
    os.utime(folder / names[0], (1, 1))  # touched
    shutil.copy(emoji["google"][40], folder / names[1])
    shutil.copy(emoji["google"][41], folder / "new.png")
    (folder / names[2]).unlink()
    (folder / names[3]).write_bytes(b"damaged")
    before = index.vectors([names[3], names[0]])
    report = index.add(folder)
    assert (report.n_new, report.n_replaced, report.n_refreshed, report.n_known, report.n_skipped) == (1, 1, 1, 6, 1)
    assert len([item for item in passes if not isinstance(item, Exception)]) == 2
    assert sorted(index.ids) == sorted([*names, "new.png"]), "what the source lacks, or cannot be read now, stays"
    np.testing.assert_array_equal(index.vectors([names[3], names[0]]), before)
    fresh = es.build(folder, index.path.parent / "fresh", **VGG)
    np.testing.assert_allclose(index.vectors(fresh.ids), fresh.vectors(fresh.ids), atol=1e-6)
    assert index.search(emoji["google"][40], k=1)[0].id == names[1]
    assert list(skipped(index.path)) == [names[3]]
    passes.clear()
    index.add(folder)
    assert len(passes) == 1, "only the one that could not be read is tried again"
    assert build_with_report(folder, index.path, **VGG).n_removed == 2, "the build's own source goes on being its own"


def test_whatever_a_build_takes_can_be_added(index, emoji, tmp_path):
    assert index.add(emoji["google"][0]).n_new == 0, "a file's id is its name"
    (tmp_path / "globbed").mkdir()
    for path in emoji["google"][50:53]:
        shutil.copy(path, tmp_path / "globbed")
    assert index.add(str(tmp_path / "globbed" / "*.png")).n_new == 3
    rows = [f"g{n},{path},{n}" for n, path in enumerate(emoji["google"][60:63])]
    (tmp_path / "goods.csv").write_text("sku,photo,price\n" + "\n".join(rows) + "\n")
    assert index.add(tmp_path / "goods.csv", id_column="sku", image_column="photo").n_new == 3
    pixels = np.random.default_rng(0).integers(0, 255, (2, 40, 40, 3), dtype=np.uint8)
    assert index.add(pixels, ids=["noise", "more"], metadata={"price": [7, 8]}).n_new == 2
    assert index.search(pixels[1], k=1)[0].id == "more" and index.item("g2").metadata == {"price": 2}
    assert index.search(emoji["google"][61], k=1, where="price >= 0")[0].id == "g1"
    expected = es.Encoder("vgg16", weights="packaged", size=64, pooling="auto").encode([emoji["google"][62], pixels[0]])
    np.testing.assert_allclose(index.vectors(["g2", "noise"]), expected, atol=1e-6)
    (tmp_path / "t.txt").write_text("a text\n")
    with pytest.raises(EmbedSearchError):
        index.add(tmp_path / "t.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no images"):
        index.add(tmp_path / "empty")
    (tmp_path / "empty" / "bad.png").write_bytes(b"x")
    with pytest.raises(SourceError, match="its only input was left out"):
        index.add(tmp_path / "empty")
    assert len(es.open(index.path, verify=True)) == 18


@pytest.mark.parametrize("options", [{"whiten": 4}, {"metric": "l2"}, {"metric": "ip", "normalize": False}])
def test_the_recipe_of_the_index_is_kept(options, folder, emoji, tmp_path):
    index = es.build(folder, tmp_path / "index", **VGG, **options)
    (tmp_path / "more").mkdir()
    for path in emoji["google"][50:53]:
        shutil.copy(path, tmp_path / "more")
    index.add(tmp_path / "more")
    own = es.open(index.path)
    expected = own.encoder.encode([tmp_path / "more" / path.name for path in emoji["google"][50:53]])
    np.testing.assert_allclose(index.vectors([path.name for path in emoji["google"][50:53]]), expected, atol=1e-5)
    assert index.search(emoji["google"][51], k=1)[0].id == emoji["google"][51].name


def test_texts_of_a_table(tmp_path, passes):
    path = tmp_path / "faq.csv"
    path.write_text("id,text,price\na,my card is lost,1\nb,what does it cost?,2\n")
    index = es.build(path, tmp_path / "index")
    passes.clear()
    path.write_text("id,text,price,shop\na,my card is lost,5,north\nb,what does it cost?,,\nc,a new one,3,south\n")
    report = index.add(path)
    assert (report.n_new, report.n_replaced, report.n_refreshed) == (1, 0, 2) and len(passes) == 1
    assert index.item("a").metadata == {"text": "my card is lost", "price": 5, "shop": "north"}
    assert index.item("b").metadata == {"text": "what does it cost?", "price": None, "shop": None}
    assert index.info()["drift"]["n_tail"] == 1 and index.search("a new one", where="shop = 'south'")[0].id == "c"
    other = tmp_path / "other.csv"
    other.write_text("id,text,price\nd,a fourth,cheap\n")
    with pytest.raises(UsageError, match="column 'price' holds string in .*'cheap' at id 'd'"):
        index.add(other)
    other.write_text("id,text,price\nd,a fourth,\n")
    assert index.add(other).n_new == 1 and index.item("d").metadata["price"] is None
    report = build_with_report(path, index.path)
    assert (report.n_guests, report.n_known, report.n_items) == (1, 3, 4) and report.n_removed == 0
    path.write_text("id,text,price,shop,day\na,my card is lost,5,north,2024-05-05\n")
    report = build_with_report(path, index.path)
    assert (report.n_new, report.n_removed, report.n_items) == (1, 2, 2)
    assert str(es.open(index.path).item("a").metadata["day"]) == "2024-05-05", "a build brings new columns as well"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "texts.jsonl"

    def write(**rows):
        path.write_text("\n".join(json.dumps({"id": i, "text": text}) for i, text in rows.items()))
        return path

    return write


def test_chunks_of_a_text_are_replaced_together(table, tmp_path, passes):
    out = tmp_path / "index"
    index = es.build(table(a=text_of(100, 1), b="a short one", c=text_of(70, 2)), out, long_texts="chunk", **SMALL)
    assert sorted(index.ids) == ["a#1", "a#2", "a#3", "a#4", "b", "c#1", "c#2", "c#3"]
    before = {i: index.vectors([i]) for i in index.ids}
    more = tmp_path / "more"
    more.mkdir()
    (more / "x.jsonl").write_text(
        "\n".join(
            json.dumps({"id": i, "text": t}) for i, t in [("a", text_of(50, 9)), ("d", "new"), ("b", "a short one")]
        )
    )
    report = index.add(more / "x.jsonl")
    assert (report.n_new, report.n_replaced, report.n_known) == (1, 1, 1)
    assert sorted(index.ids) == ["a#1", "a#2", "b", "c#1", "c#2", "c#3", "d"]
    assert not np.array_equal(index.vectors(["a#1"]), before["a#1"])
    np.testing.assert_array_equal(index.vectors(["c#2"]), before["c#2"])
    assert index.info()["n_truncated"] == 2
    grouped = index.search("the year of the people", k=9, group=True)
    assert sorted(hit.metadata["chunk_of"] for hit in grouped) == ["a", "b", "c", "d"]
    passes.clear()
    (more / "x.jsonl").write_text(json.dumps({"id": "c", "text": text_of(70, 2), "year": 1999}))
    report = index.add(more / "x.jsonl")
    assert report.n_refreshed == 1 and not passes, "the same text with other metadata"
    assert [index.item(f"c#{n}").metadata["year"] for n in (1, 2, 3)] == [1999] * 3
    assert index.item("c#2").metadata["chunk_start"] > 0 and index.info()["drift"]["n_tail"] == 3
    with pytest.raises(UnknownNameError, match="'c#2' is a chunk of 'c'; a text goes with all its chunks"):
        index.delete(["c#2"])
    assert index.delete(["c", "b"]).n_deleted == 4
    assert index.delete(where="id = 'a#2'").n_deleted == 2, "half a text is no text"
    assert index.ids == ["d"]
    index.optimize()
    assert index.ids == ["d"] and index.search("new", group=True)[0].id == "d"
    index.delete(["d"])
    assert index.search("new", group=True) == [] and index.add(more / "x.jsonl").n_new == 1
    assert sorted(index.ids) == ["c#1", "c#2", "c#3"]


def test_skips_of_a_source_are_those_of_its_last_walk(index, folder, tmp_path):
    (tmp_path / "more").mkdir()
    shutil.copy(next(folder.iterdir()), tmp_path / "more" / "good.png")
    for name in ("bad1.png", "bad2.png"):
        (tmp_path / "more" / name).write_bytes(b"x")
    with pytest.warns(UserWarning, match="2 inputs were left out"):
        index.add(tmp_path / "more")
    (tmp_path / "more" / "bad1.png").unlink()
    (folder / "own.png").write_bytes(b"x")
    index.add(tmp_path / "more")
    assert sorted(skipped(index.path)) == ["bad2.png"] and es.open(index.path).info()["n_skipped"] == 1
    build_with_report(folder, index.path, **VGG)
    assert sorted(skipped(index.path)) == ["bad2.png", "own.png"] and es.open(index.path).info()["n_skipped"] == 2
    report = build_with_report(folder, index.path, restart=True, **VGG)
    assert (
        sorted(skipped(index.path)) == ["own.png"]
        and report.n_dropped == 1
        and "good.png" not in es.open(index.path).ids
    )


def test_an_index_that_was_built_anew_meanwhile(index, folder, emoji, tmp_path):
    (tmp_path / "more").mkdir()
    shutil.copy(emoji["google"][5], tmp_path / "more" / "x.png")
    es.build(folder, index.path, pooling="max", restart=True, **VGG)
    assert index.info()["recipe"]["pooling"] == "rmac", "what was opened stays what it was"
    assert index.add(tmp_path / "more").n_new == 1 and index.info()["recipe"]["pooling"] == "max"
    expected = es.Encoder("vgg16", pooling="max", **VGG).encode([emoji["google"][5]])
    np.testing.assert_allclose(index.vectors(["x.png"]), expected, atol=1e-6)
    assert index.search(emoji["google"][5], k=1)[0].score == pytest.approx(1, abs=1e-5)


def test_a_network_of_ones_own_whose_code_has_changed(folder, emoji, net_file, tmp_path):
    name = f"module:{net_file}:make"
    index = es.build(folder, tmp_path / "index", backbone=name, preprocess="unit", layer="2", size=32)
    shutil.copy(emoji["google"][5], tmp_path / "x.png")
    assert index.add(tmp_path / "x.png").n_new == 1
    net_file.write_text(net_file.read_text() + "\n# changed\n")
    shutil.copy(emoji["google"][6], tmp_path / "y.png")
    with (
        pytest.warns(UserWarning, match="is not what it was"),
        pytest.raises(ContradictionError, match="build the index anew"),
    ):
        es.open(index.path).add(tmp_path / "y.png")


def test_a_network_that_was_given_in_python(folder, emoji, tmp_path):
    from user_files import conv

    index = es.build(folder, tmp_path / "index", backbone=conv(), preprocess="unit", layer="2", size=32)
    shutil.copy(emoji["google"][5], tmp_path / "x.png")
    assert index.add(tmp_path / "x.png").n_new == 1
    assert index.search(tmp_path / "x.png", k=1)[0].id == "x.png"
    with pytest.raises(EmbedSearchError, match="was given in Python"):
        es.open(index.path).add(tmp_path / "x.png")
    assert es.open(index.path, backbone=conv(), preprocess="unit").add(tmp_path / "x.png").up_to_date


def test_staged_rows_that_cannot_be_read_are_extracted_again(index, emoji, tmp_path):
    source = tmp_path / "more"
    source.mkdir()
    for path in emoji["google"][20:24]:
        shutil.copy(path, source)
    adding = Adding(index.path, str(source), es.open(index.path)._searcher.manifest.recipe)
    (adding.rows / "_versions").mkdir(parents=True)
    (adding.rows / "_versions" / "1.manifest").write_bytes(b"x")
    assert index.info()["unfinished_adds"] == []
    adding.record.write_text("{")
    assert index.add(source).n_new == 4 and not list(index.path.glob("adding-*"))
    adding.begin()
    (adding.rows / "_versions").mkdir(parents=True)
    (adding.rows / "_versions" / "1.manifest").write_bytes(b"x")
    assert index.info()["unfinished_adds"] == [str(source)]
    assert index.add(source).n_known == 4 and not list(index.path.glob("adding-*"))
    adding.begin()
    adding.rows.mkdir()
    build_with_report(index.info()["source"], index.path, restart=True, pooling="max", **VGG)
    assert not list(index.path.glob("adding-*")), "what is staged for another recipe is of no use"
