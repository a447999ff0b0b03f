"""A page with all items: where they lie, how they are coloured, and that what they hold is only data."""

import base64
import json
import re

import numpy as np
import pyarrow as pa
import pytest
from sklearn.decomposition import PCA

import embedsearch as es
from embedsearch.cli.main import run
from embedsearch.pipeline.map import coordinates as places
from embedsearch.pipeline.map import thumbnails
from embedsearch.pipeline.map.colour import coloured


def data_of(path):
    page = path.read_text("utf-8")
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return page, json.loads(found)


def floats(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_pca_is_that_of_scikit_learn(clusters):
    found, expected = places.coordinates(clusters, "pca", 0), PCA(2).fit_transform(clusters)
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, atol=1e-3)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_items_have_a_place(n, rng):
    found = places.coordinates(rng.normal(size=(n, 4)).astype(np.float32), "pca", 0)
    assert found.shape == (n, 2) and np.isfinite(found).all()


@pytest.mark.parametrize("method", ["umap", "tsne"])
@pytest.mark.parametrize("value", [0, 0.1, 1])
def test_equal_items_lie_at_one_place(method, value):
    pytest.importorskip(method if method == "umap" else "sklearn", reason="pip install 'embedsearch[map]'")
    found = places.coordinates(np.full((40, 8), value, np.float32), method, 0)
    np.testing.assert_array_equal(found, np.zeros((40, 2)))


@pytest.mark.parametrize("method", ["umap", "tsne"])
def test_clusters_stay_together_and_a_seed_gives_the_same(method, rng):
    pytest.importorskip(method if method == "umap" else "sklearn", reason="pip install 'embedsearch[map]'")
    centres = rng.normal(size=(3, 10)) * 10
    x = np.concatenate([centre + rng.normal(size=(30, 10)) for centre in centres]).astype(np.float32)
    found = places.coordinates(x, method, 3)
    np.testing.assert_array_equal(found, places.coordinates(x, method, 3))
    distances = np.linalg.norm(found[:, None] - found[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (distances.argmin(axis=1) // 30 == np.arange(90) // 30).all()


def test_without_the_extra_the_error_names_it_and_pca_works(monkeypatch, clusters):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(es.EmbedSearchError, match=r"embedsearch\[map\].*pca works without"):
        places.coordinates(clusters, "umap", 0)
    assert places.coordinates(clusters, "pca", 0).shape == (600, 2)


NASTY = ["</script><script>alert(1)</script>", "<!--<script>", "\"'&\u2028\u2029\\", "日本語 ☃ 🎉", "a\tb"]


def test_what_items_hold_is_data_and_never_code(tmp_path, rng):
    metadata = {"</script>": NASTY, "text": [f"{name} <img src=x onerror=alert(2)>" for name in NASTY]}
    index = es.build(rng.normal(size=(5, 8)).astype(np.float32), tmp_path / "index", ids=NASTY, metadata=metadata)
    made = index.map(tmp_path / "map.html", method="pca", color="</script>")
    page, data = data_of(tmp_path / "map.html")
    assert data["ids"] == NASTY == made.ids and all("onerror" in text for text in data["texts"])
    assert page.count("<script") == 2 == page.count("</script>") and "<img src=x" not in page
    assert set(data["colour"]["names"]) >= set(NASTY)
    np.testing.assert_array_equal(floats(data["xy"]).reshape(-1, 2), made.xy)


def test_the_page_asks_for_nothing_else(tmp_path, rng):
    es.build(rng.normal(size=(5, 8)).astype(np.float32), tmp_path / "index").map(tmp_path / "m.html", method="pca")
    page, _ = data_of(tmp_path / "m.html")
    assert "http:" not in page and "https:" not in page and "default-src 'none'" in page
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|innerHTML", page)


def test_numbers_are_a_scale_and_words_are_categories():
    scale = coloured("price", pa.chunked_array([[1.5, None, float("nan"), 3.5, float("inf")]]))
    np.testing.assert_array_equal(scale.values, np.array([1.5, np.nan, np.nan, 3.5, np.nan], np.float32))
    assert (scale.least, scale.most) == (pytest.approx(1.52), pytest.approx(3.48))
    words = coloured("kind", pa.chunked_array([["b", "a", "b", None]]))
    assert words.names == ["b", "a", "all others", "none"] and words.codes.tolist() == [0, 1, 0, 3]
    many = coloured("kind", pa.chunked_array([[f"{n:02}" for n in range(30)]]))
    assert many.n_own == 24 and many.codes.tolist() == [*range(24), *[24] * 6]
    assert coloured("n", pa.chunked_array([[1, 2, 1]])).names[:2] == ["1", "2"]
    assert coloured("n", pa.chunked_array([list(range(20))])).most > 18


def test_the_ends_of_a_scale_stand_at_its_ends(tmp_path, rng):
    index = es.build(rng.normal(size=(5, 8)).astype(np.float32), tmp_path / "i", metadata={"n": list(range(5))})
    index.map(tmp_path / "m.html", method="pca", color="n")
    page, _ = data_of(tmp_path / "m.html")
    # what makes the names of a legend fill their lines would draw the right end into the middle
    stretched = [line for line in page.splitlines() if re.search(r"\bspan\b.*flex: 1", line)]
    assert "#ends { display: flex; justify-content: space-between" in page
    assert len(stretched) == 1 and stretched[0].startswith("#legend button span ")


def test_points_are_coloured_by_their_folders_or_by_labels(tmp_path, rng):
    ids = ["pets/cat/1", "pets/cat/2", "dog/3", "4"]
    index = es.build(rng.normal(size=(4, 8)).astype(np.float32), tmp_path / "index", ids=ids, metadata={"n": [1] * 4})

    def drawn(**by):
        index.map(tmp_path / "m.html", method="pca", **by)
        colour = data_of(tmp_path / "m.html")[1]["colour"]
        return [colour["names"][code] for code in colour["codes"]]

    assert drawn(label_folders=True) == ["cat", "cat", "dog", "none"]
    (tmp_path / "labels.csv").write_text("id,label\n4,fish\npets/cat/2,tom\nunknown,x\n")
    assert drawn(labels=tmp_path / "labels.csv") == ["none", "tom", "none", "fish"]
    assert drawn(labels={"4": "fish"}) == ["none", "none", "none", "fish"]
    with pytest.raises(es.EmbedSearchError, match="no item that is drawn has a label.*'pets/cat/1'"):
        drawn(labels={"unknown": "x"})
    with pytest.raises(es.EmbedSearchError, match="pairs of query and id give an item no label"):
        drawn(labels={"4": {"dog/3": 1}})
    with pytest.raises(es.EmbedSearchError, match="give one of"):
        drawn(label_folders=True, color="n")


def test_pictures_are_shown_and_missing_ones_counted(folder, tmp_path, monkeypatch):
    index = es.build(folder, tmp_path / "index", weights="packaged", size=64)
    next(iter(sorted(folder.glob("*.png")))).unlink()
    made = index.map(tmp_path / "map.html", method="pca")
    _, data = data_of(tmp_path / "map.html")
    assert (made.n_thumbnails, made.n_unreadable, made.n_over_limit) == (9, 1, 0)
    assert [thumb.startswith("data:image/webp;base64,") for thumb in data["thumbs"]].count(True) == 9
    monkeypatch.setattr(thumbnails, "MOST_BYTES", 3 * max(map(len, data["thumbs"])))
    made = index.map(tmp_path / "map.html", method="pca")
    assert 3 <= made.n_thumbnails < 9 and sum((made.n_thumbnails, made.n_unreadable, made.n_over_limit)) == 10


def test_the_command(tmp_path, rng, capsys):
    es.build(rng.normal(size=(50, 8)).astype(np.float32), tmp_path / "i", metadata={"n": list(range(50))})
    out = tmp_path / "map.html"

    def command(*args):
        with pytest.raises(SystemExit) as end:
            run(["map", str(tmp_path / "i"), "--out", str(out), "--method", "pca", *args])
        told = capsys.readouterr()
        return end.value.code, told.out, told.err

    code, told, err = command("--where", "n < 20", "--sample", "5", "--json")
    report = json.loads(told)
    assert code == 0 and err == "" and len(report["points"]) == 5 and report["n_items"] == 50
    assert all(int(point["id"]) < 20 for point in report["points"])
    assert command()[1] == f"50 items of 50 by pca, drawn in {out}\n"
    assert "not known" in command("--color", "m")[2] and command("--sample", "0")[0] == 2
    assert command("--method", "mds")[0] == 2
    assert "it must be below" in command("--seed", str(2**32))[2]
    assert "seed is -1; it must be at least 0" in command("--seed", "-1")[2]
    (tmp_path / "a.html").mkdir()
    for place, told in (("a.html", "it is a folder"), ("no/a.html", "does not exist"), ("a.txt", "must end in .html")):
        code, _, err = command("--out", str(tmp_path / place))
        assert code == 2 and told in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "i", "map.html"]


def test_an_empty_index_is_an_empty_map(tmp_path, rng):
    index = es.build(rng.normal(size=(2, 8)).astype(np.float32), tmp_path / "i")
    index.delete(["0", "1"])
    assert index.map(tmp_path / "map.html", method="pca").ids == []
