"""Rows of an embedding table, looked up and changed, against numpy."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save_file

from embedsearch.errors import UnknownNameError, UsageError
from embedsearch.pipeline.table import EmbeddingTable
from embedsearch.sources import ArraySource

TABLE = np.random.default_rng(5).normal(size=(9, 3)).astype(np.float32)
WORDS = list("abcdefghi")
INTEGERS = st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4"])


# ---- looking up ------------------------------------------------------------------------------------------------------


@given(
    hnp.arrays(INTEGERS, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4), elements=st.integers(0, 8)),
)
def test_lookup_is_take(ids):
    table = EmbeddingTable(TABLE, WORDS)
    wanted = TABLE.take(ids.astype(int), axis=0)
    for asked in (ids, ids.tolist(), np.array(WORDS)[ids.astype(int)], np.array(WORDS)[ids.astype(int)].tolist()):
        found = table.lookup(asked)
        assert found.dtype == np.float32
        if np.size(asked) or isinstance(asked, np.ndarray):
            np.testing.assert_array_equal(found, wanted)
        found += 1
    np.testing.assert_array_equal(table.rows, TABLE)


@given(
    st.integers(-(2**70), 2**70).filter(lambda n: not 0 <= n < 9), st.sampled_from(["list", "int64", "uint64", "int8"])
)
@example(2**63, "list")  # of which numpy alone would make a float
def test_rows_outside_are_named(bad, kind):
    if kind != "list":
        limits = np.iinfo(kind)
        bad = max(limits.min, min(limits.max, bad))
        if 0 <= bad < 9:
            return
    ids = [3, bad] if kind == "list" else np.array([[3], [bad]], kind)
    table = EmbeddingTable(TABLE)
    for act in (table.lookup, lambda ids: table.assign(ids if kind == "list" else ids.ravel(), TABLE[:2])):
        with pytest.raises(UsageError, match=rf"row {bad} is not in the table; valid: 0\.\.8"):
            act(ids)
    np.testing.assert_array_equal(table.rows, TABLE)


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        (1.0, "float"), ([1, 2.0], "float, int"), (np.array([1.0]), "float64"), (np.array([]), "float64"),
        (True, "bool"), ([True, 2], "bool, int"), (np.array([True]), "bool"), (np.bool_(True), "bool"),
        ([1, "a"], "int, str"), (None, "NoneType"), ({1}, "set"), ([[1], [2, 3]], "list|one shape"),
        (torch.tensor([0.5]), "float32"), (b"a", "bytes"), (slice(3), "slice"),
    ],
)  # fmt: skip
def test_what_is_no_id_is_refused(ids, told):
    with pytest.raises(UsageError, match=told):
        EmbeddingTable(TABLE, WORDS).lookup(ids)


def test_ids_that_are_not_there():
    with pytest.raises(UnknownNameError, match="id 'aple' is not known; did you mean 'apple'"):
        EmbeddingTable(TABLE[:2], ["apple", "pear"]).lookup(["pear", "aple"])
    with pytest.raises(UsageError, match="this table has no ids"):
        EmbeddingTable(TABLE).lookup("apple")
    with pytest.raises(UnknownNameError, match="the table has 30000 ids, e.g. '0'"):
        EmbeddingTable(np.ones((30_000, 1)), map(str, range(30_000))).lookup("x")
    with pytest.raises(UsageError, match="the table has no rows"):
        EmbeddingTable(np.ones((0, 2))).lookup(0)


@pytest.mark.parametrize(
    ("rows", "ids", "message"),
    [
        (np.ones(3), None, "matrix N x D"), (np.ones((2, 0)), None, "matrix N x D"), (np.ones((1, 1, 1)), None, "x D"),
        (np.ones((2, 2), complex), None, "real numbers"), (np.ones((2, 1)), ["a"], "1 ids were given for 2 rows"),
        (np.ones((2, 1)), ["a", "a"], "'a' is given twice"), (np.ones((2, 1)), [1, "a"], "strings, not int 1"),
        (np.ones((2, 1)), "ab", "not one string"), ([[1], [1, 2]], None, "real numbers"),
    ],
)  # fmt: skip
def test_rows_and_ids_that_do_not_fit(rows, ids, message):
    with pytest.raises(UsageError, match=message):
        EmbeddingTable(rows, ids)
    if ids is not None:
        with pytest.raises(UsageError, match=message):
            EmbeddingTable.load({"x": rows}, "x", ids=ids)


# ---- changing --------------------------------------------------------------------------------------------------------


@given(st.data())
def test_assign_changes_those_rows_alone(data):
    numbers = data.draw(st.lists(st.integers(0, 8), unique=True))
    rows = data.draw(hnp.arrays(np.float32, (len(numbers), 3), elements=st.floats(-9, 9, width=32)))
    given_rows, changed = TABLE.copy(), rows.copy()
    table, wanted = EmbeddingTable(given_rows, WORDS), TABLE.copy()
    wanted[numbers] = rows
    asked = data.draw(st.sampled_from([numbers, np.array(numbers, np.uint8), [WORDS[n] for n in numbers]]))
    table.assign(asked, rows)
    np.testing.assert_array_equal(table.rows, wanted)
    np.testing.assert_array_equal(given_rows, TABLE)
    rows += 1
    np.testing.assert_array_equal(table.lookup(numbers), changed)


def test_assign_takes_one_row_and_tensors():
    table = EmbeddingTable(torch.tensor(TABLE, requires_grad=True), WORDS)
    table.assign("b", [1, 2, 3])
    table.assign(2, torch.ones(3, requires_grad=True, dtype=torch.float64))
    table.assign([4], np.zeros(3))
    assert table.lookup(["b", "c", "e"]).tolist() == [[1, 2, 3], [1, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("ids", "rows", "message"),
    [
        ([1, 2], np.ones((2, 4)), "rows are 2 x 4, for 2 ids they must be 2 x 3"),
        ([1, 2], np.ones((1, 3)), "must be 2 x 3"),
        ([1, 2], np.ones(3), "must be 2 x 3"),
        ([1, 2], [[1, 2, 3], [1, 2, np.nan]], "NaN or infinity, first in row 1"),
        ([1, 2], [[1, 2, 3], [1, 2, 1e300]], "NaN or infinity, first in row 1"),
        ([1, 2, 1], np.ones((3, 3)), "row 1 is given twice"),
        (["b", "c", "b"], np.ones((3, 3)), "row 1 is given twice"),
        ([[1], [2]], np.ones((2, 3)), "one or a list"),
        ([1, 9], np.ones((2, 3)), "row 9 is not"),
        (["a", "z"], np.ones((2, 3)), "'z' is not known"),
        ([1, 2], [["a"] * 3] * 2, "real numbers"),
    ],
)
def test_nothing_is_changed_when_anything_is_wrong(ids, rows, message):
    table = EmbeddingTable(TABLE, WORDS)
    with pytest.raises(UsageError, match=message):
        table.assign(ids, rows)
    np.testing.assert_array_equal(table.rows, TABLE)


def test_the_table_is_a_copy_and_its_view_is_read_only():
    given_rows = TABLE.copy()
    table = EmbeddingTable(given_rows, WORDS)
    given_rows[:] = 0
    np.testing.assert_array_equal(table.rows, TABLE)
    with pytest.raises(ValueError, match="read-only"):
        table.rows[0] = 0
    table.ids.append("x")
    assert len(table.ids) == 9 and repr(table) == "EmbeddingTable(9 x 3, with ids, <table>)"


def test_a_table_is_a_source_of_a_build(tmp_path):
    save_file({"emb": torch.tensor(TABLE)}, tmp_path / "a.safetensors")
    table = EmbeddingTable.load(tmp_path / "a.safetensors", "emb", ids=WORDS)
    table.assign("c", [7, 8, 9])
    source = table.as_source()
    assert isinstance(source, ArraySource) and source.location == f"{tmp_path / 'a.safetensors'}::emb"
    ids, rows, _ = next(source.blocks(100))
    assert ids == WORDS and rows[2].tolist() == [7, 8, 9]
    np.testing.assert_array_equal(rows, table.rows)
    assert next(EmbeddingTable(TABLE).as_source().blocks(2))[0] == ["0", "1"]
