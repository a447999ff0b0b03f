import json
from datetime import date
from itertools import chain

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedsearch.errors import SourceError, UsageError
from embedsearch.sources import ArraySource, Columns, open_source
from embedsearch.sources.columns import TextColumn
from embedsearch.types import Item, Modality, Skip


def ids(source):
    return [entry.id for entry in source if isinstance(entry, Item)]


def skips(source):
    return {entry.id: entry.reason for entry in source if isinstance(entry, Skip)}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    for name in ("b.png", "a.jpg", "sub/c.PNG", "sub/deep/d.webp", "notes.md", ".hidden.png", "noending", "ü.gif"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def test_a_folder_is_walked_in_a_stable_order_by_relative_path(folder):
    source = open_source(str(folder))
    assert source.modality is Modality.IMAGE
    assert ids(source) == ["a.jpg", "b.png", "noending", "ü.gif", "sub/c.PNG", "sub/deep/d.webp"]
    assert skips(source) == {
        "notes.md": "not a picture: files ending in .md are not read (they are with --modality text)"
    }
    assert source.count() == 7
    assert ids(source) == ids(open_source(str(folder)))


def test_a_folder_of_texts(folder):
    assert ids(open_source(str(folder), modality=Modality.TEXT)) == ["noending", "notes.md"]


def test_a_changed_file_has_another_fingerprint(folder):
    before = {item.id: item.fingerprint for item in open_source(str(folder)) if isinstance(item, Item)}
    (folder / "b.png").write_bytes(b"yy")
    after = {item.id: item.fingerprint for item in open_source(str(folder)) if isinstance(item, Item)}
    assert [name for name in before if before[name] != after[name]] == ["b.png"]


def test_links_in_a_circle_end(folder):
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "other").symlink_to(folder / "sub" / "deep")
    source = open_source(str(folder))
    assert "other/d.webp" in ids(source)
    assert skips(source)["sub/up"] == "link to a folder that it lies in"


def test_a_dead_link_and_names_that_are_no_utf8_are_not_lost(folder):
    import os

    (folder / "dead.png").symlink_to(folder / "nowhere.png")
    with open(os.path.join(os.fsencode(folder), b"bad\xff.png"), "wb") as stream:  # noqa: PTH118, PTH123
        stream.write(b"x")
    source = open_source(str(folder))
    assert "bad\\xff.png" in ids(source)
    assert "cannot be read" in skips(source)["dead.png"]


def test_a_glob(folder):
    assert ids(open_source(f"{folder}/**/*.[pP]*")) == ["b.png", "sub/c.PNG"]
    assert ids(open_source(f"{folder}/sub/*.PNG")) == ["c.PNG"]


@given(st.integers(1, 5))
def test_shards_partition_the_ids(tmp_path_factory, n):
    path = tmp_path_factory.getbasetemp() / "shards.txt"
    path.write_text("".join(f"line {i}\n" for i in range(13)))
    source = open_source(str(path))
    parts = [[entry.id for entry in source.shard(i, n)] for i in range(n)]
    assert sorted(chain.from_iterable(parts), key=int) == ids(source)
    assert all(part == sorted(part, key=int) for part in parts)


def test_lines_are_numbered_from_1_and_bad_bytes_are_named(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\nthree\nfo\xffur\nfive")
    source = open_source(str(path))
    assert [(item.id, item.content) for item in source if isinstance(item, Item)] == [
        ("1", "one"), ("2", ""), ("3", "three"), ("5", "five"),
    ]  # fmt: skip
    assert skips(source) == {"4": "not UTF-8: byte 3 of the line"}
    assert source.count() == 5


def test_csv_columns_get_types_and_bad_rows_are_told(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(
        b"sku,title,price,stock,day,zip,live,vector\n"
        b'a1,"first, with comma",1.5,3,2024-01-02,01234,true,x\n'
        b"a2,second,2,,2024-01-03,99999,FALSE,y\n"
        b"a3,short row\n"
        b"a4,bad \xff,1,1,2024-01-01,1,true,z\n"
        b",no id,1,1,2024-01-01,1,true,z\n"
    )
    source = open_source(str(path), columns=Columns(id="sku", text="title"))
    items = [entry for entry in source if isinstance(entry, Item)]
    assert [item.id for item in items] == ["a1", "a2"]
    assert items[0].content == "first, with comma"
    assert items[0].metadata == {
        "title": "first, with comma", "price": 1.5, "stock": 3, "day": date(2024, 1, 2), "zip": "01234",
        "live": True, "vector_": "x",
    }  # fmt: skip
    assert items[1].metadata["stock"] is None and items[1].metadata["live"] is False
    assert source.schema == pa.schema(
        [("title", pa.string()), ("price", pa.float64()), ("stock", pa.int64()), ("day", pa.date32()),
         ("zip", pa.string()), ("live", pa.bool_()), ("vector_", pa.string())]
    )  # fmt: skip
    assert source.renamed == {"vector": "vector_"}
    assert skips(source) == {
        "3": "the row has 2 cells, the header has 8", "4": "not UTF-8", "row 5": "the id column 'sku' is empty",
    }  # fmt: skip


def test_ids_and_contents_keep_their_own_spelling(tmp_path):
    """What looks like a number is one for the metadata, but an id is a name."""
    path = tmp_path / "t.csv"
    path.write_text(
        "id,text,n,big\n1580000000000000001,1.50,1.50,9007199254740993\n1580000000000000002,1e1,2,0.5\n1.1,x,3,1\n1.10,y,4,1\n"
    )
    items = list(open_source(str(path)))
    assert [item.id for item in items] == ["1580000000000000001", "1580000000000000002", "1.1", "1.10"]
    assert [item.content for item in items] == ["1.50", "1e1", "x", "y"]
    assert items[0].metadata["n"] == 1.5 and items[0].metadata["big"] == "9007199254740993", "a float would round it"
    path = tmp_path / "t.jsonl"
    path.write_text(
        '{"id": 1580000000000000001, "text": "a", "n": 9007199254740993}\n{"id": 1.5, "text": "b", "n": 0.5}\n'
    )
    items = list(open_source(str(path)))
    assert [item.id for item in items] == ["1580000000000000001", "1.5"]
    assert [item.metadata["n"] for item in items] == ["9007199254740993", "0.5"]


def test_integers_of_19_digits(tmp_path):
    (tmp_path / "t.csv").write_text(f"text,n,over\na,{2**63 - 1},{2**63}\n")
    (item,) = open_source(str(tmp_path / "t.csv"))
    assert item.metadata["n"] == 2**63 - 1 and item.metadata["over"] in (float(2**63), str(2**63))


def test_column_names_that_the_store_cannot_keep(tmp_path):
    (tmp_path / "t.csv").write_text(",text,a.b,a_b,_rowid, c ,uri\n0,x,1,2,3,4,5\n")
    source = open_source(str(tmp_path / "t.csv"))
    assert source.schema.names == ["column", "text", "a_b", "a_b_", "rowid", "c", "uri_"]
    assert source.renamed == {"": "column", "a.b": "a_b", "a_b": "a_b_", "_rowid": "rowid", " c ": "c", "uri": "uri_"}


def test_a_quote_that_is_never_closed_is_told(tmp_path):
    (tmp_path / "t.csv").write_text('id,text\n1,"open\n2,b\n3,c\n')
    with pytest.raises(SourceError, match="not a CSV file: .*line 4"):
        open_source(str(tmp_path / "t.csv"))
    (tmp_path / "l.csv").write_bytes("id,größe\n1,2\n".encode("latin-1"))
    with pytest.raises(SourceError, match="header row"):
        open_source(str(tmp_path / "l.csv"))


def test_a_picture_named_by_a_table_changes_with_its_file(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "t.csv").write_text("id,image\n1,a.png\n")
    before = next(iter(open_source(str(tmp_path / "t.csv")))).fingerprint
    (tmp_path / "a.png").write_bytes(b"yy")
    after = next(iter(open_source(str(tmp_path / "t.csv")))).fingerprint
    (tmp_path / "t.csv").write_text("id,image\n1,b.png\n")
    assert len({before, after, next(iter(open_source(str(tmp_path / "t.csv")))).fingerprint}) == 3


def test_one_file_with_brackets_in_its_name(tmp_path):
    (tmp_path / "a[1]::b.png").write_bytes(b"x")
    assert ids(open_source(str(tmp_path / "a[1]::b.png"))) == ["a[1]::b.png"]


def test_folders_that_hold_an_index_are_passed_over(folder):
    (folder / "sub" / "deep" / "items.lance").mkdir()
    assert "sub/deep/d.webp" not in ids(open_source(str(folder)))


def test_pictures_in_an_archive_are_read(tmp_path):
    import zipfile

    from embedsearch.sources import read_bytes

    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("in/a.png", b"A")
        archive.writestr("in/sub/b.png", b"B")
    source = open_source(f"zip://in::{tmp_path}/x.zip")
    assert {item.id: read_bytes(item.uri) for item in source} == {"a.png": b"A", "sub/b.png": b"B"}


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=6), min_size=1, max_size=5))
def test_a_text_column_reads_back_every_value_by_its_type(values):
    column = TextColumn()
    for value in values:
        column.observe(value)
    read = [column.convert(value) for value in values]
    assert pa.array(read, column.type).to_pylist() == read
    for value, back in zip(values, read, strict=True):
        assert (back is None) == (value == "")
        if isinstance(back, str):
            assert back == value
        if isinstance(back, int) and not isinstance(back, bool):
            assert str(back) == value or value == "-0"


def test_jsonl_with_mixed_and_nested_values(tmp_path):
    path = tmp_path / "t.jsonl"
    rows = [{"id": 1, "text": "a", "n": 1, "mixed": 1, "tags": ["x"]}, {"id": 2, "text": "b", "n": 2.5, "mixed": "s"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n{broken\n[1]\n")
    source = open_source(str(path))
    items = [entry for entry in source if isinstance(entry, Item)]
    assert [item.id for item in items] == ["1", "2"]
    assert items[0].metadata == {"text": "a", "n": 1.0, "mixed": "1", "tags": '["x"]'}
    assert items[1].metadata == {"text": "b", "n": 2.5, "mixed": "s", "tags": None}
    assert sorted(skips(source)) == ["3", "4"]


def test_parquet_keeps_its_types_and_pictures_lie_beside_it(tmp_path):
    table = pa.table({"id": [7, 8], "image": ["p/a.png", "/abs/b.png"], "when": pa.array([1, 2], pa.timestamp("ms"))})
    table = table.append_column("kind", pa.array(["x", "y"]).dictionary_encode())
    pq.write_table(table, tmp_path / "t.parquet")
    source = open_source(str(tmp_path / "t.parquet"))
    assert source.modality is Modality.IMAGE
    assert [(item.id, item.uri) for item in source] == [("7", f"{tmp_path}/p/a.png"), ("8", "/abs/b.png")]
    assert source.schema == pa.schema([("when", pa.timestamp("ms")), ("kind", pa.string())])


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,title\n1,x\n")
    with pytest.raises(UsageError, match="no column 'body'; it has: id, title"):
        open_source(str(path), columns=Columns(text="body"))
    with pytest.raises(UsageError, match="no column named 'text'"):
        open_source(str(path))


def test_text_and_image_columns_together_need_a_word(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,text,image\n1,x,y.png\n")
    with pytest.raises(UsageError, match="--modality"):
        open_source(str(path))
    assert open_source(str(path), modality=Modality.TEXT).modality is Modality.TEXT
    assert open_source(str(path), columns=Columns(image="image")).modality is Modality.IMAGE


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("nothing", None, "does not exist"),
        ("t.csv", b"", "empty"),
        ("t.csv", b"a,a\n1,2\n", "two columns named 'a'"),
        ("t.parquet", b"nonsense", "not a Parquet file"),
        ("t.npy", b"nonsense", "not a .npy file of numbers"),
        ("t.xyz", b"x", "not a kind of file"),
        ("none*.png", None, "no file matches"),
    ],
)
def test_sources_that_cannot_be_read_say_why(tmp_path, name, content, error):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((SourceError, UsageError), match=error):
        open_source(str(tmp_path / name))


def test_a_pickled_npy_is_never_opened(tmp_path):
    np.save(tmp_path / "t.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(SourceError):
        open_source(str(tmp_path / "t.npy"))


def test_urls_are_read_like_paths():
    fs = fsspec.filesystem("memory")
    fs.pipe({"/bucket/a.png": b"x", "/bucket/sub/b.png": b"y", "/bucket/t.txt": b"one\ntwo\n"})
    assert ids(open_source("memory://bucket")) == ["a.png", "sub/b.png"]
    first = next(iter(open_source("memory://bucket")))
    from embedsearch.sources import read_bytes

    assert read_bytes(first.uri) == b"x"
    assert ids(open_source("memory://bucket/t.txt")) == ["1", "2"]
    assert ids(open_source("memory://bucket/**/*.png")) == ["a.png", "sub/b.png"]
    with pytest.raises(SourceError, match="does not exist"):
        open_source("memory://bucket/nothing")


def test_arrays_come_in_blocks_with_ids_and_metadata(tmp_path):
    x = np.arange(12, dtype=np.float64).reshape(6, 2)
    np.save(tmp_path / "x.npy", x)
    blocks = list(open_source(str(tmp_path / "x.npy")).blocks(4))
    assert [block[0] for block in blocks] == [["0", "1", "2", "3"], ["4", "5"]]
    np.testing.assert_array_equal(np.concatenate([block[1] for block in blocks]), x)
    source = ArraySource.from_memory(x, ids=range(10, 16), metadata={"id": list("abcdef"), "n": range(6)})
    names, rows, metadata = next(source.blocks(100))
    assert names[0] == "10" and rows.dtype == np.float32 and metadata[1] == {"id_": "b", "n": 1}


@pytest.mark.parametrize("mode", ["r", "c"])
def test_blocks_of_a_mapped_file_stay_what_they_are(mode, tmp_path):
    """Pages of the file are given back block by block, but never what a caller has written."""
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
    if mode == "c":
        mapped[5] = x[5] = 77
    for matrix in (mapped, mapped[:], np.asarray(mapped)):
        blocks = list(ArraySource(matrix).blocks(2))
        np.testing.assert_array_equal(np.concatenate([block[1] for block in blocks]), x)
    np.testing.assert_array_equal(mapped, x)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.ones(3), {}, "matrix"),
        (np.ones((2, 0)), {}, "0 dimensions"),
        (np.ones((2, 2), complex), {}, "real"),
        (np.ones((2, 2)), {"ids": ["a"]}, "1 ids were given for 2 vectors"),
        (np.ones((2, 2)), {"metadata": {"n": [1]}}, "metadata rows"),
        (np.ones((2, 2)), {"metadata": 5}, "table"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(x, options, message):
    with pytest.raises(UsageError, match=message):
        ArraySource.from_memory(x, **options)


def test_half_characters_in_json_are_told(tmp_path):
    (tmp_path / "t.jsonl").write_text(
        '{"id": "a", "text": "\\ud83d\\ude00"}\n{"id": "b", "text": "x", "n": "\\ud83d"}\n'
    )
    source = open_source(str(tmp_path / "t.jsonl"))
    assert ids(source) == ["a"] and skips(source) == {"2": "not valid Unicode: lone surrogate"}
