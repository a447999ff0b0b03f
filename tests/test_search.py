"""The whole road over vectors, against brute force."""

import numpy as np
import oracle
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import embedsearch as es
from embedsearch.errors import ArtifactError, ContradictionError, UnknownNameError, UsageError


def rows(ids):
    return np.array([[int(i) for i in row] for row in ids])


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("k", [1, 10, 600, 5000])
def test_flat_search_is_brute_force(metric, k, clusters, tmp_path):
    index = es.build(clusters, tmp_path / "x", metric=metric)
    queries = np.concatenate([clusters[:5], clusters[:5] * 0.5 + 0.1, np.zeros((1, 24), np.float32)])
    ids, scores = index.search_vectors(queries, k=k)
    assert ids.shape == scores.shape == (11, min(k, 600)) and scores.dtype == np.float32
    oracle.assert_is_best(rows(ids), scores, queries, clusters, metric, min(k, 600))


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 4), st.sampled_from(["cosine", "ip", "l2"]))
def test_ties_and_duplicates_are_answered_rightly(tmp_path_factory, seed, n, dim, metric):
    x = np.random.default_rng(seed).integers(-2, 3, (n, dim)).astype(np.float32)
    index = es.build(x, tmp_path_factory.mktemp("ties"), metric=metric)
    ids, scores = index.search_vectors(x, k=n)
    oracle.assert_is_best(rows(ids), scores, x, x, metric, n)
    for i in range(n):
        assert str(i) not in [hit.id for hit in index.similar(str(i), k=n)]
        assert len(index.similar(str(i), k=n)) == n - 1


def test_hits_carry_rank_score_and_metadata(clusters, tmp_path):
    table = pd.DataFrame({"price": np.arange(600) / 2, "name": [f"n{i}" for i in range(600)]})
    index = es.build(clusters, tmp_path / "x", ids=[f"id-{i}" for i in range(600)], metadata=table)
    hits = index.search(vector=clusters[7], k=3)
    assert isinstance(hits[0], es.Hit) and hits.note is None
    assert [hit.rank for hit in hits] == [1, 2, 3] and hits[0].id == "id-7"
    assert hits[0].metadata == {"price": 3.5, "name": "n7"} and hits[0].score == pytest.approx(1, abs=1e-5)
    assert [hit.id for hit in index.similar("id-7", k=2)] == [hit.id for hit in hits[1:]]
    assert len(index) == 600 and index.dim == 24 and index.ids[5] == "id-5"
    np.testing.assert_allclose(
        index.vectors(["id-3", "id-599", "id-3"]),
        clusters[[3, 599, 3]] / np.linalg.norm(clusters[[3, 599, 3]], axis=1, keepdims=True),
        atol=1e-6,
    )


def test_vectors_under_ip_and_l2_keep_their_lengths(clusters, tmp_path):
    for metric in ("ip", "l2"):
        index = es.build(clusters, tmp_path / metric, metric=metric)
        np.testing.assert_array_equal(index.vectors(["0", "5"]), clusters[[0, 5]])


@pytest.mark.parametrize("family", ["flat", "hnsw"])
def test_conditions_leave_k_answers_when_k_match(family, clusters, tmp_path):
    table = pa.table({"n": np.arange(600), "shop": ["a", "b", "it's"] * 200})
    index = es.build(clusters, tmp_path / family, metadata=table, index=family)
    allowed = (np.arange(600) % 3 == 2) & (np.arange(600) > 550)
    ids, scores = index.search_vectors(clusters[:9], k=10, where="shop = 'it''s' AND n > 550")
    oracle.assert_is_best(rows(ids), scores, clusters[:9], clusters, "cosine", 10, allowed)
    few = index.search(vector=clusters[0], k=10, where="n < 3")
    assert {hit.id for hit in few} == {"0", "1", "2"} and "3 items are there" in str(few.note)
    assert index.search(vector=clusters[0], where="n < 0").note is not None
    assert [hit.id for hit in index.similar("0", k=5, where="n < 3")] != ["0"]
    with pytest.raises(UsageError, match="columns: id, n, shop"):
        index.search(vector=clusters[0], where="nope = 1")


def test_min_score_and_its_note(clusters, tmp_path):
    index = es.build(clusters, tmp_path / "x")
    hits = index.search(vector=clusters[0], k=50, min_score=0.9)
    assert hits and all(hit.score >= 0.9 for hit in hits)
    assert hits.note == f"{len(hits)} of the 50 best score at least 0.9"
    with pytest.raises(UsageError, match="distance"):
        es.build(clusters, tmp_path / "l2", metric="l2").search(vector=clusters[0], min_score=1)


def test_no_item_one_item_and_more_asked_than_there_are(tmp_path):
    empty = es.build(np.empty((0, 3), np.float32), tmp_path / "empty")
    assert len(empty) == 0 and empty.search(vector=[1, 2, 3]) == [] and empty.search(vector=[1, 2, 3]).note
    ids, scores = empty.search_vectors(np.ones((2, 3)), k=5)
    assert ids.shape == scores.shape == (2, 0)
    one = es.build(np.ones((1, 3), np.float32), tmp_path / "one")
    assert [hit.id for hit in one.search(vector=[1, 2, 3], k=9)] == ["0"]
    assert one.similar("0", k=9) == [] and "no other item" in str(one.similar("0").note)
    assert one.search_vectors(np.empty((0, 3)), k=2)[0].shape == (0, 1)
    assert one.search_many([]) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda i: i.search(vector=[1, 2]), "2 dimensions, the index has 24"),
        (lambda i: i.search(vector=[np.nan] * 24), "NaN"),
        (lambda i: i.search(vector=np.ones(24), k=0), "k is 0"),
        (lambda i: i.similar("0", k=-1), "k is -1"),
        (lambda i: i.search(vector=np.ones(24), k="3"), "k is '3'; it must be a whole number"),
        (lambda i: i.search_vectors(np.ones((1, 24)), k=2.5), "whole number"),
        (lambda i: i.search(), "either"),
        (lambda i: i.search("x", vector=np.ones(24)), "either"),
        (lambda i: i.vectors("0"), "give a list"),
        (lambda i: i.similar("nope"), "id 'nope' is not known"),
    ],
)
def test_wrong_questions_are_told(call, message, clusters, tmp_path):
    with pytest.raises(UsageError, match=message):
        call(es.build(clusters, tmp_path / "x"))


def test_a_misspelt_id_says_what_is_near(clusters, tmp_path):
    index = es.build(clusters, tmp_path / "x", ids=[f"photo-{i}.jpg" for i in range(600)])
    with pytest.raises(UnknownNameError, match=r"photo-7\.jpg"):
        index.similar("photo-7.jpeg")


def test_plain_vectors_cannot_be_asked_with_a_text(clusters, tmp_path):
    with pytest.raises(ContradictionError, match="by id or by vector"):
        es.build(clusters, tmp_path / "x").search("a text")


def test_pca_and_whitening_of_vectors(clusters, tmp_path):
    from embedsearch.postprocess import Postprocess, fit_projection
    from embedsearch.vectors import l2_normalize

    index = es.build(clusters, tmp_path / "x", whiten=4)
    fitted = Postprocess(projection=fit_projection(l2_normalize(clusters), 4, whiten=True))
    assert index.dim == 4
    np.testing.assert_allclose(index.vectors(index.ids), fitted(clusters), atol=1e-5)
    # queries may come from the space of the source, too
    ids, scores = index.search_vectors(clusters[:5], k=3)
    same = index.search_vectors(fitted(clusters[:5]), k=3)
    assert ids.tolist() == same[0].tolist() and ids[:, 0].tolist() == list("01234")
    np.testing.assert_allclose(scores, same[1], atol=1e-5)
    with pytest.raises(UsageError, match="7 dimensions, the index has 4, its source 24"):
        index.search(vector=np.ones(7))
    with pytest.raises(UsageError, match=r"pca 25: .*at most 24"):
        es.build(clusters, tmp_path / "y", pca=25)


def test_recall_of_a_graph_is_measured_and_kept(clusters, tmp_path):
    index = es.build(clusters, tmp_path / "x", index="hnsw")
    about = index.info()["index"]
    assert about["family"] == "hnsw" and 0.95 <= about["recall_at_10"] <= 1
    assert about["search"]["ef_search"] and about["build"]["M"]
    ids, _ = index.search_vectors(clusters[:50], k=10)
    exact, _ = es.build(clusters, tmp_path / "y").search_vectors(clusters[:50], k=10)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(ids, exact, strict=True)]) > 0.95


def test_one_vector_is_one_vector(clusters, tmp_path):
    index = es.build(clusters, tmp_path / "x")
    with pytest.raises(UsageError, match=r"vector has 3 rows; search takes one, search_many"):
        index.search(vector=clusters[:3])


NAMES = [
    "a`b",
    "a.b",
    "sp ace",
    "a'b",
    'say "hi"',
    "",
    "größe",
    "日本",
    "vector",
    "id",
    "_rowid",
    "select",
    "a;b",
    "a--b",
    "(n)",
    "z\0",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_column_of_any_name_can_be_asked_for(tmp_path, name):
    index = es.build(np.eye(6), tmp_path / "index", metadata={name: list(range(6)), "shop": list("aabbcc")})
    about = index.info()
    (kept,) = set(about["metadata_columns"]) - {"shop"}
    assert about["renamed"] == ({} if kept == name else {name: kept})
    quoted = kept.replace('"', '""')
    assert {hit.id for hit in index.search(vector=np.ones(6), where=f"\"{quoted}\" < 3 AND shop = 'a'")} == {"0", "1"}
    index.add(np.ones((1, 6)), ids=["new"], metadata={name: [-1]})
    assert [hit.id for hit in index.search(vector=np.ones(6), where=f'"{quoted}" < 0')] == ["new"]


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ('"a`b" = 1', 'the store keeps "a`b" as "a_b"; columns: id, a_b'),
        ("`a``b` = 1", "Did you mean 'a_b'"),
        ("n = ?", r"a \? in place of a value"),
        ("n = $1", r"a \$ in place of a value"),
        ("n = :n", "does not know how to read it"),
        (3, "where is 3; it must be an SQL condition"),
    ],
)
def test_conditions_that_are_none_are_told(tmp_path, where, told):
    index = es.build(np.eye(6), tmp_path / "index", metadata={"a`b": list(range(6))})
    with pytest.raises(UsageError, match=told):
        index.search(vector=np.ones(6), where=where)
    with pytest.raises(UsageError, match=told):
        index.delete(where=where)
    assert len(index) == 6


def test_columns_are_listed_as_a_condition_names_them(tmp_path):
    names = ["n", "unit price", 'say "hi"', "1st"]
    index = es.build(np.eye(6), tmp_path / "index", metadata={name: list(range(6)) for name in names})
    with pytest.raises(UsageError, match='columns: id, n, "unit price", "say ""hi""", "1st", uri, added_from$'):
        index.search(vector=np.ones(6), where="unit price < 3")
    for listed in ('"unit price"', '"say ""hi"""', '"1st"'):
        assert len(index.search(vector=np.ones(6), where=f"{listed} < 3")) == 3


def test_an_index_with_a_name_of_before_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("embedsearch.sources.arrays.free_name", lambda name, taken: name)
    index = es.build(np.eye(6), tmp_path / "index", metadata={"a`b": list(range(6)), "n": list(range(6))})
    for where in (None, "n < 3"):
        with pytest.raises(ArtifactError, match="the column 'a`b', whose name cannot be read; build it anew"):
            index.search(vector=np.ones(6), where=where)


@pytest.fixture
def few(tmp_path):
    return es.build(np.eye(6), tmp_path / "few", metadata={"n": list(range(6))})


def test_vectors_are_asked_by_position_where_the_index_holds_vectors(few):
    x = np.eye(6)[3] + 0.1
    assert few.search(x, k=2) == few.search(vector=x, k=2) == few.search(x.tolist(), k=2)
    assert few.search_many([x, x], k=2) == few.search_many(np.stack([x, x]), k=2) == [few.search(x, k=2)] * 2
    for ask in (few.search, few.search_many):
        with pytest.raises(ContradictionError, match="holds plain vectors; ask by id or by vector"):
            ask("a cat")


def test_whole_numbers_stand_for_the_ids_that_a_build_makes_of_them(few):
    assert few.similar(3, k=2) == few.similar("3", k=2) == few.similar_many(np.array([3]), k=2)[0]
    assert few.item(np.int64(3)).metadata == few.item("3").metadata == {"n": 3}
    np.testing.assert_array_equal(few.vectors([3, "4"]), np.eye(6, dtype=np.float32)[[3, 4]])
    assert few.delete(3).n_items == 5 and few.delete(np.array([4])).n_items == 4


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda index: index.similar(None), "None is no id"),
        (lambda index: index.similar(["1"]), r"\['1'\] is no id"),
        (lambda index: index.item(1.5), "1.5 is no id"),
        (lambda index: index.similar_many("12"), "ids are '12'; give a list"),
        (lambda index: index.vectors("1"), "ids are '1'; give a list"),
        (lambda index: index.vectors(1), "ids are 1; give a list"),
        (lambda index: index.delete([True]), "True is no id"),
        (lambda index: index.delete(None), "ids are None; give a list"),
        (lambda index: index.search([[1, 2], [1]]), "vectors must be an array of real numbers"),
        (lambda index: index.search(np.ones(6), min_score=float("nan")), "min_score is nan; it must be a number"),
        (lambda index: index.search(np.ones(6), k=None, min_score=float("nan")), "min_score is nan"),
        (lambda index: index.search(np.ones(6), min_score="a"), "min_score is 'a'"),
        (lambda index: index.search(np.ones(6), max_distance=float("nan")), "max_distance is nan"),
        (lambda index: index.search(np.ones(6), recall="most"), "recall is 'most'"),
        (lambda index: index.add([[1, 2], [1]]), "vectors cannot be read as one array, give rows of one shape"),
        (lambda index: index.add(np.eye(6), ids=5), "ids are 5; give a list with one a row"),
        (lambda index: index.add(np.eye(6), ids=[*"abcde", None]), "the id in row 5 is None; every row needs one"),
        (lambda index: index.add(np.eye(6), ids=[*"abcde", float("nan")]), "the id in row 5 is nan"),
    ],
)
def test_what_cannot_be_meant_names_the_value(few, ask, told):
    with pytest.raises(UsageError, match=told):
        ask(few)
    assert len(few) == 6


def test_numbers_beyond_float32_are_left_out_and_told(few):
    with pytest.warns(UserWarning, match="1 input was left out.*NaN or infinity"):
        report = few.add(np.array([np.full(6, 1e39), np.ones(6)]), ids=["large", "one"])
    assert (report.n_new, report.n_skipped) == (1, 1) and few.ids[-1] == "one"


def test_metadata_may_be_a_list_of_mappings(tmp_path):
    index = es.build(np.eye(3), tmp_path / "x", metadata=[{"a": 1}, {"b": "x"}, {"a": 2, "b": "y"}])
    assert [index.item(row).metadata for row in range(3)] == [
        {"a": 1, "b": None},
        {"a": None, "b": "x"},
        {"a": 2, "b": "y"},
    ]
