"""Building end to end on real pictures and texts: what comes out, and what is done with bad input."""

import json
import os
import shutil

import numpy as np
import pictures
import pytest
from builds import VGG, skipped

import embedsearch as es
from embedsearch.engine.building import build_with_report
from embedsearch.errors import (
    EmbedSearchError,
)


def test_pictures_end_to_end(folder, tmp_path, emoji, image_encoder):
    out = tmp_path / "index"
    index = es.build(folder, out, **VGG)
    paths = sorted(folder.iterdir())
    assert index.ids == [path.name for path in paths]
    np.testing.assert_allclose(index.vectors(index.ids), image_encoder.encode(paths), atol=1e-6)
    hits = es.open(out).search(paths[3], k=3)
    assert hits[0].id == paths[3].name and hits[0].score == pytest.approx(1, abs=1e-5)
    assert hits[0].uri == str(paths[3])
    info = index.info()
    assert info["recipe"]["layers"] == ["features.22"] and len(info["recipe"]["weights_sha256"]) == 64
    assert info["n_items"] == 10 and info["dim"] == 512 and info["metadata_columns"] == {}
    assert not {path.name for path in out.iterdir()} & {"build.json", "skipped.jsonl.partial", "manifest.json.tmp"}


def test_texts_end_to_end(tmp_path, text_encoder):
    path = tmp_path / "t.jsonl"
    rows = [{"id": f"q{i}", "text": text, "n": i} for i, text in enumerate(["my card is lost", "what is the fee", " "])]
    path.write_text("\n".join(map(json.dumps, rows)))
    index = es.build(path, tmp_path / "index")
    assert index.ids == ["q0", "q1"] and skipped(tmp_path / "index") == {"q2": "empty text"}
    many = index.search_many(["I cannot find my card", "how much does it cost"], k=1)
    assert [hits[0].id for hits in many] == ["q0", "q1"]
    assert many[1][0].metadata == {"text": "what is the fee", "n": 1}
    np.testing.assert_allclose(index.vectors(["q1"]), text_encoder.encode(["what is the fee"]), atol=1e-6)
    with pytest.raises(EmbedSearchError, match="input 0: a text is needed"):
        index.search(np.zeros((4, 4, 3), np.uint8))


def test_every_awkward_picture_is_indexed_rightly_or_told(tmp_path):
    root = tmp_path / "p"
    root.mkdir()
    readable = {
        "rgba.png": pictures.transparent("RGBA"), "la.png": pictures.transparent("LA"),
        "pa.png": pictures.transparent("P"), "cmyk.jpg": pictures.cmyk(), "grey16.png": pictures.grey16(),
        "moving.gif": pictures.animated(), "turned.jpg": pictures.rotated(), "huge.png": pictures.huge(),
    }  # fmt: skip
    unreadable = {
        "empty.jpg": b"", "cut.jpg": pictures.truncated(), "zero.png": pictures.zero_size(), "text.png": b"no picture",
    }  # fmt: skip
    for name, data in {**readable, **unreadable, "notes.txt": b"x"}.items():
        (root / name).write_bytes(data)
    report = build_with_report(root, tmp_path / "index", **VGG)
    index = es.open(tmp_path / "index")
    assert set(index.ids) == set(readable) and report.n_items == len(readable)
    assert set(skipped(tmp_path / "index")) == {*unreadable, "notes.txt"}
    assert report.n_skipped == index.info()["n_skipped"] == 5 == sum(report.reasons.values())
    from PIL import Image

    red = Image.new("RGB", (40, 20), "red")
    red.paste("white", (20, 0, 40, 20))
    assert index.search(red, k=1)[0].score == pytest.approx(
        index.search(pictures.transparent("RGBA"), k=1)[0].score, abs=1e-4
    )
    assert index.search(Image.new("RGB", (40, 20), "red"), k=2)[0].id == "moving.gif"


def test_names_that_are_no_utf8(tmp_path, emoji):
    root = os.fsencode(tmp_path / "p")
    os.mkdir(root)  # noqa: PTH102 - bytes
    shutil.copy(emoji["google"][0], os.path.join(root, b"bad\xff name.png"))  # noqa: PTH118 - bytes
    shutil.copy(emoji["google"][1], os.path.join(root, "grün, 'x'.png".encode()))  # noqa: PTH118 - bytes
    index = es.build(tmp_path / "p", tmp_path / "index", **VGG)
    assert index.ids == ["bad\\xff name.png", "grün, 'x'.png"]
    assert build_with_report(tmp_path / "p", tmp_path / "index", **VGG).up_to_date
    assert index.similar("grün, 'x'.png")[0].id == index.ids[0]


def test_postscript_under_another_name_starts_no_program(tmp_path):
    from embedsearch.decoders import decode_image
    from embedsearch.errors import ItemError

    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(ItemError, match="not a picture that Pillow can read"):
        decode_image(eps)


def test_awkward_texts(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"fine\n\n\xff\xfe\n" + b"long " * 100_000 + b"\n   \nfine too\n")
    report = build_with_report(path, tmp_path / "index")
    assert es.open(tmp_path / "index").ids == ["1", "4", "6"]
    assert report.n_truncated == 1 and es.open(tmp_path / "index").info()["n_truncated"] == 1
    assert skipped(tmp_path / "index") == {"2": "empty text", "3": "not UTF-8: byte 1 of the line", "5": "empty text"}


def test_of_equal_ids_the_first_counts(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,text\na,one\nb,two\na,three\n")
    index = es.build(path, tmp_path / "index")
    assert index.ids == ["a", "b"] and index.search("one", k=1)[0].metadata["text"] == "one"
    assert "duplicate id" in skipped(tmp_path / "index")["a"]
    x = np.eye(3, dtype=np.float32)
    x[2] = np.nan
    index = es.build(x, tmp_path / "x", ids=["a", "a", "b"])
    assert index.ids == ["a"] and "NaN" in skipped(tmp_path / "x")["b"]


def test_pictures_named_by_a_table(tmp_path, emoji):
    for path in emoji["google"][:3]:
        shutil.copy(path, tmp_path)
    rows = [f"{path.name},{n}" for n, path in enumerate(emoji["google"][:3])]
    (tmp_path / "t.csv").write_text("\n".join(["file,price", *rows, "gone.png,9", ",8"]))
    index = es.build(tmp_path / "t.csv", tmp_path / "index", image_column="file", **VGG)
    assert index.ids == ["1", "2", "3"] and index.item("2").metadata == {"price": 1}
    assert index.search(emoji["google"][1], k=1, where="price > 0")[0].id == "2"
    assert skipped(tmp_path / "index") == {"4": "the file does not exist", "5": "the image column 'file' is empty"}


def test_a_source_behind_a_url(emoji, tmp_path):
    import fsspec

    fs = fsspec.filesystem("memory")
    for path in emoji["google"][:3]:
        fs.pipe(f"/photos/{path.name}", path.read_bytes())
    index = es.build("memory://photos", tmp_path / "index", **VGG)
    assert index.search("memory://photos/" + emoji["google"][2].name, k=1)[0].id == emoji["google"][2].name
