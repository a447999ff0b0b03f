import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedsearch.errors import UsageError
from embedsearch.store import ItemStore, Ledger, StoreWriter, Visit
from embedsearch.store.writer import latest_version, tracked_files
from embedsearch.types import Block

SCHEMA = pa.schema([("price", pa.float64()), ("text", pa.string())])


def block(ids, x):
    return Block(
        ids=list(ids),
        vectors=np.asarray(x, np.float32),
        uris=[f"/{i}" for i in ids],
        content_hashes=["h"] * len(ids),
        fingerprints=[f"f{i}" for i in ids],
        truncated=[False] * len(ids),
        metadata=[{"price": float(n), "text": f"it's {i}"} for n, i in enumerate(ids)],
    )


@pytest.fixture
def filled(tmp_path, rng):
    x = rng.normal(size=(50, 4)).astype(np.float32)
    ids = [f"id{i}" for i in range(50)]
    writer = StoreWriter(tmp_path / "items.lance", SCHEMA, fresh=True)
    assert writer.is_empty
    for start in range(0, 50, 7):
        writer.append(block(ids[start : start + 7], x[start : start + 7]))
    return writer, ids, x


def test_rows_come_back_in_the_order_they_were_added(filled):
    writer, ids, x = filled
    for compacted in (False, True):
        if compacted:
            writer.compact()
        store = writer.open()
        assert len(store) == 50 and store.dim == 4 and store.metadata_columns == ["price", "text"]
        assert store.ids.to_pylist() == ids
        np.testing.assert_array_equal(np.concatenate(list(store.vector_blocks(16))), x)
        rows = np.array([3, 49, 3, 0])
        np.testing.assert_array_equal(store.vectors_at(rows), x[rows])
        assert store.ids_at(rows.reshape(2, 2)).tolist() == [["id3", "id49"], ["id3", "id0"]]
        assert store.rows_of(["id49", "nothing", "id0"]).tolist() == [49, -1, 0]
        hit = store.hits(rows, np.arange(4, dtype=np.float32))[1]
        assert (hit.id, hit.score, hit.rank, hit.uri) == ("id49", 1.0, 2, "/id49")
        assert hit.metadata == {"price": 0.0, "text": "it's id49"}


# what a parser of whole statements would take, and pass over the end of
NOT_ONE_CONDITION = [
    "1=1; DELETE FROM items",
    "1=1 LIMIT 3",
    "1=1 ORDER BY price",
    "1=1) LIMIT (3",
    "1=1) UNION (SELECT 1",
    "price > 3 -- and more",
    "price > 3 /* and more */",
    "price > 3 GROUP BY text",
    "text = 'open",
    "(price > 3",
    "id in (SELECT id FROM items)",
    "random() < 0.5",
]


def test_conditions_and_what_is_wrong_with_them(filled):
    store = filled[0].open()
    assert store.rows_where("text = 'it''s id9'").tolist() == [9]
    assert store.rows_where("price >= 6").tolist() == [6, 13, 20, 27, 34, 41, 48]
    assert store.rows_where("(price >= 6) OR text = 'a;b -- (c'").tolist() == [6, 13, 20, 27, 34, 41, 48]
    assert store.rows_where('"price" = 6').tolist() == store.rows_where("price = 6").tolist()
    assert len(store.rows_where("\"text\" != 'nowhere'")) == len(store.rows_where("text != 'nowhere'"))
    assert len(store.rows_where("\"text\" = 'nowhere'")) == 0, "a name in double quotes is a column, and no text"
    assert len(store.rows_where("text = 'random()'")) == 0
    for bad in ('"nope" = 1', "nope > 1", "price >>", "price", "1; DROP TABLE items", "", *NOT_ONE_CONDITION):
        with pytest.raises(UsageError, match="columns: id, price, text"):
            store.rows_where(bad)


def test_replace_and_delete(filled):
    writer, ids, x = filled
    before = writer.open()
    writer.replace(block(["id3", "new"], [[1, 1, 1, 1], [2, 2, 2, 2]]), ["id3"])
    writer.delete(["id0", "it's not there", "id1"])
    writer.compact()
    store = writer.open()
    assert set(store.ids.to_pylist()) == (set(ids) | {"new"}) - {"id0", "id1"}
    np.testing.assert_array_equal(store.vectors_at(store.rows_of(["id3", "new", "id7"])), [[1] * 4, [2] * 4, x[7]])
    assert before.ids.to_pylist() == ids, "an open version does not change"


def test_few_deletions_leave_no_holes(tmp_path, rng):
    x = rng.normal(size=(300, 4)).astype(np.float32)
    writer = StoreWriter(tmp_path / "items.lance", SCHEMA, fresh=True)
    writer.append(block([f"id{i}" for i in range(300)], x))
    writer.delete(["id0", "id7"])
    writer.compact()
    store = writer.open()
    left = [i for i in range(300) if i not in (0, 7)]
    assert store.ids.to_pylist() == [f"id{i}" for i in left]
    np.testing.assert_array_equal(store.vectors_at(np.arange(298)), x[left])
    np.testing.assert_array_equal(np.concatenate(list(store.vector_blocks(100))), x[left])
    assert store.rows_where("id = 'id9'").tolist() == store.rows_of(["id9"]).tolist() == [7]


def test_a_fresh_start_is_the_next_version_and_leaves_the_old_one_readable(filled):
    writer, _, x = filled
    old = writer.open().version
    again = StoreWriter(writer.path, pa.schema([]), fresh=True)
    empty = block(["a"], [[1, 2]])
    empty.metadata = [{}]
    again.append(empty)
    assert again.open().dim == 2 and latest_version(writer.path) == old + 1
    np.testing.assert_array_equal(ItemStore.open(writer.path, old).vectors_at(np.array([5])), x[5:6])
    files = tracked_files(writer.path, old)
    assert files and all(path.exists() for path in files)
    again.forget_versions([])
    assert not all(path.exists() for path in files)
    assert again.open().ids.to_pylist() == ["a"]


def test_rewrite_transforms_the_vectors_and_keeps_all_else(filled, tmp_path):
    writer, ids, x = filled
    target = StoreWriter(tmp_path / "other.lance", SCHEMA, fresh=True)
    target.rewrite(writer.open(), lambda rows: rows[:, :2] * 2, lambda n: None, 2)
    store = target.open()
    np.testing.assert_allclose(np.concatenate(list(store.vector_blocks())), x[:, :2] * 2)
    assert store.ids.to_pylist() == ids
    assert store.hits(np.array([8]), np.zeros(1, np.float32))[0].metadata == {"price": 1.0, "text": "it's id8"}


def test_no_dataset_has_version_0(tmp_path):
    assert latest_version(tmp_path / "nothing") == 0
    (tmp_path / "cut" / "_versions").mkdir(parents=True)
    assert latest_version(tmp_path / "cut") == 0


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("12")),
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("12"))),
)
def test_the_ledger_is_a_dictionary(stored, walk):
    met: set[str] = set()
    expected = []
    for item_id, fingerprint in walk:
        if item_id in met:
            expected.append(Visit.REPEATED)
        elif item_id not in stored:
            expected.append(Visit.NEW)
        else:
            expected.append(Visit.KNOWN if stored[item_id] == fingerprint else Visit.CHANGED)
        met.add(item_id)
    for step in (1, 3, 100):
        with Ledger((*entry, True) for entry in stored.items()) as ledger:
            visits = [ledger.visit(*entry) for entry in walk] if step == 1 else []
            for first in range(0, len(walk), step) if step > 1 else ():
                part = walk[first : first + step]
                visits += ledger.visit_all([item_id for item_id, _ in part], [fingerprint for _, fingerprint in part])
            assert visits == expected
            assert set(ledger.unmet()) == set(stored) - met


def test_the_ledger_leaves_alone_what_another_source_gave():
    with Ledger([("a", "1", True), ("b", "1", False), ("c", "1", True), ("d", "1", False)]) as ledger:
        assert ledger.visit("a", "1") is Visit.KNOWN and ledger.visit("b", "2") is Visit.CHANGED
        assert list(ledger.unmet()) == ["c"] and ledger.n_guests() == 1
        assert ledger.owns("a") and ledger.owns("new") and not ledger.owns("b")
