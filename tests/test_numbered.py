"""Rows without ids of their own are numbered, and numbers are nobody's name: they replace nothing of another source."""

import json

import numpy as np
import pytest
from changing import assert_holds

import embedsearch as es
from embedsearch.cli.main import run
from embedsearch.errors import SourceError, UsageError


@pytest.fixture
def x(rng):
    return rng.normal(size=(40, 6)).astype(np.float32)


@pytest.fixture
def files(tmp_path, x):
    np.save(tmp_path / "a.npy", x[:20])
    np.save(tmp_path / "b.npy", x[20:])
    (tmp_path / "a.txt").write_text("a cat\na dog\nthe sun\n")
    (tmp_path / "b.txt").write_text("a car\na house\n")
    return tmp_path


def test_numbers_of_another_file_replace_nothing(files, x):
    index = es.build(files / "a.npy", files / "i")
    with pytest.raises(
        UsageError, match=r"b.npy has no ids of its own.* '0' from the source of its build.*--id-prefix"
    ):
        index.add(files / "b.npy")
    assert_holds(index, [str(n) for n in range(20)], x[:20])
    assert index.add(files / "b.npy", id_prefix="b-").n_new == 20
    assert_holds(index, [str(n) for n in range(20)] + [f"b-{n}" for n in range(20)], x)
    np.save(files / "c.npy", x[:5] + 1)
    with pytest.raises(UsageError, match=r"c.npy .* an item 'b-0' from .*b.npy"):
        index.add(files / "c.npy", id_prefix="b-")
    assert len(index) == 40


def test_a_source_replaces_its_own_numbers_and_what_is_equal_is_the_same(files, x):
    index = es.build(files / "a.npy", files / "i")
    np.save(files / "moved.npy", x[:20])
    assert index.add(files / "moved.npy").up_to_date, "the same rows under the same numbers"
    np.save(files / "a.npy", np.concatenate([x[:19], x[30:32]]))
    report = index.add(files / "a.npy")
    assert (report.n_new, report.n_replaced, report.n_known) == (1, 1, 19)
    np.save(files / "moved.npy", np.concatenate([x[:21]]))
    with pytest.raises(UsageError, match="an item '19' from the source of its build"):
        index.add(files / "moved.npy")
    index.add(files / "b.npy", id_prefix="b-")
    np.save(files / "b.npy", x[20:] + 1)
    assert index.add(files / "b.npy", id_prefix="b-").n_replaced == 20, "it goes on owning what it gave"
    # numbers that are given are names
    assert index.add(files / "moved.npy", ids=[str(n) for n in range(21)]).n_replaced == 2


def test_what_is_in_memory_may_be_anything(x, tmp_path):
    index = es.build(x[:20], tmp_path / "i")
    with pytest.raises(UsageError, match=r"<array> has no ids of its own.* '0' with other content.*ids=\.\.\."):
        index.add(x[20:])
    assert index.add(x[20:], id_prefix="more-").n_new == 20
    with pytest.raises(UsageError, match="'more-0' with other content"):
        index.add(x[10:20], id_prefix="more-")
    assert index.add(x[20:], id_prefix="more-").up_to_date
    assert index.add(x[20:22], ids=range(2)).n_replaced == 2
    assert index.add(x[:3], ids=["p", "q", "r"]).n_new == 3


def test_lines_and_rows_of_tables_are_numbers_as_well(files):
    index = es.build(files / "a.txt", files / "i")
    for name, content in (("b.txt", None), ("c.csv", "text,price\nfoo,1\n"), ("c.jsonl", '{"text": "foo"}\n')):
        if content:
            (files / name).write_text(content)
        with pytest.raises(UsageError, match="has no ids of its own, so its rows are numbered"):
            index.add(files / name)
    assert sorted(index.ids) == ["1", "2", "3"] and index.search("a dog", k=1)[0].id == "2"
    assert index.add(files / "b.txt", id_prefix="b-").n_new == 2
    assert index.search("a car", k=1)[0].id == "b-1"
    (files / "d.csv").write_text("id,text\n1,a bird\n")
    assert index.add(files / "d.csv").n_replaced == 1, "ids that a table has are names"


def test_texts_with_ids_of_their_own(files):
    (files / "ids.txt").write_text("cat\ndog\nsun\n")
    index = es.build(files / "a.txt", files / "i", ids=files / "ids.txt")
    assert index.ids == ["cat", "dog", "sun"] and index.search("a dog", k=1)[0].id == "dog"
    assert index.add(files / "b.txt", ids=["car", "house"]).n_new == 2
    with pytest.raises(UsageError, match=r"3 ids for 2 lines of .*b.txt; give one a line"):
        index.add(files / "b.txt", ids=files / "ids.txt")
    (files / "a.txt").write_text("a cat\na wolf\nthe sun\n")
    assert es.build(files / "a.txt", files / "i", ids=files / "ids.txt").search("a wolf", k=1)[0].id == "dog"


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_metadata_in_a_file_beside_a_matrix(files, x, kind):
    import pandas as pd

    table = pd.DataFrame({"sku": [f"s{n}" for n in range(20)], "price": range(20), "shop": list("ab") * 10})
    name = files / f"m.{kind}"
    if kind == "csv":
        table.to_csv(name, index=False)
    elif kind == "jsonl":
        table.to_json(name, orient="records", lines=True)
    else:
        table.to_parquet(name)
    index = es.build(files / "a.npy", files / kind, metadata=name)
    assert index.ids == [str(n) for n in range(20)] and index.item("7").metadata == {
        "sku": "s7", "price": 7, "shop": "b"
    }  # fmt: skip
    hits = index.search(x[3], where="price < 8 AND shop = 'a'")
    assert {hit.id for hit in hits} == {"0", "2", "4", "6"}
    report = index.add(files / "b.npy", metadata=name, id_column="sku")
    assert report.n_new == 20 and index.item("s7").metadata == {"sku": None, "price": 7, "shop": "b"}
    np.testing.assert_allclose(index.vectors(["s7"])[0], x[27] / np.linalg.norm(x[27]), rtol=1e-6)


def test_metadata_that_does_not_fit_is_told_before_anything_is_written(files):
    (files / "m.csv").write_text("price\n1\n2\n")
    (files / "bad.jsonl").write_text('{"price": 1}\nnot JSON\n')
    (files / "holes.csv").write_text("id,price\na,1\n,2\n")
    for name, error, told in (
        ("m.csv", UsageError, "2 metadata rows were given for 20 vectors"),
        ("bad.jsonl", SourceError, "bad.jsonl cannot be read in row 2: not JSON"),
        ("holes.csv", SourceError, "holes.csv has no id in row 2, column 'id'"),
        ("a.txt", UsageError, "a.txt is not a table; give FILE.csv"),
        ("none.csv", SourceError, "none.csv does not exist"),
    ):
        with pytest.raises(error, match=told):
            es.build(files / "a.npy", files / "i", metadata=files / name)
    with pytest.raises(UsageError, match="m.csv has no column 'sku'; it has: price"):
        es.build(files / "a.npy", files / "i", metadata=files / "m.csv", id_column="sku")
    with pytest.raises(UsageError, match="put texts and theirs into one table"):
        es.build(files / "a.txt", files / "i", metadata=files / "m.csv")
    assert not (files / "i").exists()


def test_the_command_line(files, capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return end.value.code, out, err

    (files / "m.csv").write_text("id,price\n" + "".join(f"k{n},{n}\n" for n in range(20)))
    assert call("build", files / "a.npy", "--metadata", files / "m.csv", "--out", files / "i")[0] == 0
    code, out, _ = call("query", files / "i", "--id", "k3", "--where", "price > 17", "--json")
    assert code == 0 and {hit["id"] for hit in json.loads(out)[0]["hits"]} == {"k18", "k19"}
    assert call("build", files / "a.npy", "--out", files / "n")[0] == 0
    code, _, err = call("add", files / "n", files / "b.npy")
    assert code == 2 and "--ids FILE" in err and "--id-prefix" in err and err.count("\n") == 1
    code, out, _ = call("add", files / "n", files / "b.npy", "--id-prefix", "b-", "--json")
    assert code == 0 and json.loads(out)["n_new"] == 20


def test_an_index_of_an_older_format_numbers_its_rows_too(tmp_path):
    import shutil
    from pathlib import Path

    root = shutil.copytree(Path(__file__).parent / "data" / "format-2", tmp_path / "old")
    index = es.open(root)
    np.save(tmp_path / "x.npy", np.eye(4, dtype=np.float32))
    assert index.add(tmp_path / "x.npy").n_new == 4, "its own ids are names"
    with pytest.raises(UsageError, match="'0' with other content"):
        index.add(np.eye(4)[::-1])


def test_a_source_that_grows_into_the_numbers_of_another_replaces_nothing(files, x):
    index = es.build(files / "a.npy", files / "i")
    np.save(files / "more.npy", np.concatenate([x[:20], x[30:40]]))
    assert index.add(files / "more.npy").n_new == 10
    np.save(files / "a.npy", np.concatenate([x[:20], x[20:26]]))
    with pytest.raises(UsageError, match=r"a.npy has no ids of its own.* '20' from .*more.npy"):
        es.build(files / "a.npy", files / "i")
    assert len(es.open(files / "i", verify=True)) == 30
    np.save(files / "a.npy", x[:18])
    assert len(es.build(files / "a.npy", files / "i")) == 28, "what was added stays"
