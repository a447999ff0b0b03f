"""Query expansion, against brute force that is written apart from the package."""

from __future__ import annotations

import json

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

import embedsearch as es
from embedsearch.cli.main import run
from embedsearch.errors import UsageError
from embedsearch.pipeline import expansion
from embedsearch.pipeline.expansion import joined
from embedsearch.pipeline.search import Searcher
from embedsearch.vectors import l2_normalize

N, DIM, ALPHA = 300, 16, 3


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(11)
    labels = rng.integers(0, 6, N)
    centres = rng.normal(size=(6, DIM))
    x = (centres[labels] + 1.5 * rng.normal(size=(N, DIM))).astype(np.float32) * rng.uniform(0.5, 2, (N, 1))
    queries = (centres[np.arange(40) % 6] + 1.5 * rng.normal(size=(40, DIM))).astype(np.float32)
    return x.astype(np.float32), labels, queries


@pytest.fixture(scope="module")
def index(tmp_path_factory, drawn):
    x, labels, _ = drawn
    table = {"kind": [str(label) for label in labels], "part": ["ab"[at % 2] for at in range(N)]}
    return es.build(x, tmp_path_factory.mktemp("expansion") / "index", metadata=table)


def expanded(q, x, n, allowed=None, own=None):
    """A query a row, float64, one after the other."""
    x = x.astype(np.float64) / np.linalg.norm(x, axis=1, keepdims=True)
    found = []
    for at, one in enumerate(q.astype(np.float64)):
        one = one / np.linalg.norm(one)
        scores = x @ one
        may = np.ones(len(x), bool) if allowed is None else allowed.copy()
        if own is not None:
            may[own[at]] = False
        for row in sorted(np.flatnonzero(may), key=lambda row: -scores[row])[:n]:
            one = one + max(scores[row], 0) ** ALPHA * x[row]
        found.append(one / np.linalg.norm(one))
    return np.array(found)


def numbers(ids):
    return np.array(ids).astype(int)


@pytest.mark.parametrize("n", [1, 3, 10, N + 5])
def test_a_batch_is_that_of_brute_force(index, drawn, n, monkeypatch):
    x, _, queries = drawn
    monkeypatch.setattr(expansion, "_BLOCK_VALUES", 7 * min(n, N) * DIM)  # several blocks, the last one shorter
    ids, scores = index.search_vectors(queries, k=10, expand=n)
    oracle.assert_is_best(numbers(ids), scores, expanded(queries, x, n), x, "cosine", 10)


def test_zero_answers_change_nothing(index, drawn):
    _, _, queries = drawn
    for plain, asked in zip(index.search_vectors(queries), index.search_vectors(queries, expand=0), strict=True):
        assert (plain == asked).all()


def test_every_way_to_ask_gives_the_same(index, drawn):
    x, _, queries = drawn
    ids, scores = index.search_vectors(queries, k=5, expand=3)
    many = index.search_many(vectors=queries, k=5, expand=3)
    assert [[hit.id for hit in hits] for hits in many] == ids.tolist()
    for q in (0, 7):
        hits = index.search(queries[q], k=5, expand=3)
        assert [hit.id for hit in hits] == ids[q].tolist()
        assert [hit.score for hit in hits] == pytest.approx(scores[q].tolist(), abs=1e-6)
    everything = index.search(vector=queries[0], k=None, min_score=0.5, expand=3)
    truth = oracle.scores_of(expanded(queries[:1], x, 3), x, "cosine")[0]
    assert len(everything) == (truth >= 0.5).sum() > 0


def test_a_condition_holds_for_those_that_join_as_well(index, drawn):
    x, _, queries = drawn
    allowed = np.arange(N) % 2 == 0
    ids, scores = index.search_vectors(queries, k=10, where="part = 'a'", expand=4)
    oracle.assert_is_best(numbers(ids), scores, expanded(queries, x, 4, allowed), x, "cosine", 10, allowed)
    few = index.search(vector=queries[0], k=10, where="id = '4'", expand=4)
    assert [hit.id for hit in few] == ["4"] and "1 item" in few.note
    assert index.search(vector=queries[0], where="id = 'none'", expand=4).note == "no item meets the condition"


def test_an_item_does_not_join_itself(index, drawn):
    x, _, _ = drawn
    own = np.array([5, 80, 81])
    truth = expanded(x[own], x, 3, own=own)
    for at, hits in enumerate(index.similar_many([str(row) for row in own], k=6, expand=3)):
        allowed = np.arange(N) != own[at]
        rows, scores = np.array([[int(hit.id) for hit in hits]]), np.array([[hit.score for hit in hits]])
        oracle.assert_is_best(rows, scores, truth[[at]], x, "cosine", 6, allowed)
        alone = index.similar(str(own[at]), k=6, expand=3)
        assert [hit.id for hit in alone] == [hit.id for hit in hits]


def test_what_was_deleted_does_not_join(tmp_path, drawn):
    x, _, queries = drawn
    changed = es.build(x, tmp_path / "index")
    gone = sorted({hit.id for hits in changed.search_many(vectors=queries, k=2) for hit in hits}, key=int)
    changed.delete(gone)
    allowed = ~np.isin(np.arange(N), numbers(gone))
    ids, scores = changed.search_vectors(queries, k=5, expand=3)
    oracle.assert_is_best(numbers(ids), scores, expanded(queries, x, 3, allowed), x, "cosine", 5, allowed)


def test_an_approximate_index_that_finds_fewer(index, drawn, monkeypatch):
    x, _, queries = drawn
    search = Searcher.search

    def fewer(self, asked, k, *args, **kwargs):
        rows, scores = search(self, asked, k, *args, **kwargs)
        rows[:, 2:], scores[:, 2:] = -1, np.nan
        return rows, scores

    monkeypatch.setattr(Searcher, "search", fewer)
    ids, scores = index.search_vectors(queries, k=5, expand=4)
    assert (ids[:, 2:] == None).all()  # noqa: E711
    truth = oracle.scores_of(expanded(queries, x, 2), x, "cosine")
    np.testing.assert_allclose(scores[:, :2], -np.sort(-truth, axis=1)[:, :2], atol=1e-5)


def test_a_graph_expands_as_brute_force_does(tmp_path, drawn):
    x, _, queries = drawn
    graph = es.build(x, tmp_path / "index", index="graph")
    ids, scores = graph.search_vectors(queries, k=10, expand=3)
    truth = expanded(queries, x, 3)
    assert oracle.recall_of(numbers(ids), truth, x, "cosine") >= 0.97
    np.testing.assert_allclose(scores[:, 0], oracle.scores_of(truth, x, "cosine").max(axis=1), atol=5e-3)


def test_an_empty_index_and_an_empty_batch(tmp_path, index):
    empty = es.build(np.ones((2, 4), np.float32), tmp_path / "index")
    empty.delete(["0", "1"])
    assert empty.search(vector=np.ones(4), expand=3).note == "the index is empty"
    assert index.search_vectors(np.empty((0, DIM), np.float32), expand=3)[0].shape == (0, 10)


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_other_metrics_are_refused(tmp_path, drawn, metric):
    other = es.build(drawn[0], tmp_path / "index", metric=metric)
    for ask in (
        lambda: other.search(vector=drawn[2][0], expand=3),
        lambda: other.similar("1", expand=3),
        lambda: other.search_vectors(drawn[2], expand=3),
        lambda: other.evaluate({"0": "a", "1": "a"}, expand=3),
    ):
        with pytest.raises(UsageError, match=f"scores of this index are {metric}"):
            ask()
    assert len(other.search(vector=drawn[2][0], expand=0)) == 10


@pytest.mark.parametrize("wrong", [-1, "three", 1.5, None])
def test_wrong_numbers_are_refused(index, drawn, wrong):
    with pytest.raises(UsageError, match="expand is"):
        index.search_vectors(drawn[2], expand=wrong)


def test_chunks_of_the_best_texts_join(tmp_path):
    long = " ".join(["the cat sat on the mat and looked at the bird"] * 60)
    (tmp_path / "texts.csv").write_text(
        f"id,text\na,{long}\nb,a dog barks at the moon\nc,a kitten drinks milk\nd,stocks fell on Monday\n"
    )
    chunks = es.build(tmp_path / "texts.csv", tmp_path / "index", backbone="minilm", long_texts="chunk")
    x = chunks.vectors(chunks.ids)
    texts = np.array([name.split("#")[0] for name in chunks.ids])
    assert (texts == "a").sum() > 1
    own = int(np.flatnonzero(texts == "a")[0])
    scores = l2_normalize(x) @ l2_normalize(x[[own]])[0]
    firsts = sorted(np.flatnonzero(texts != "a"), key=lambda row: -scores[row])[:2]
    weights = np.maximum(scores[firsts], 0) ** ALPHA
    asked = l2_normalize(x[[own]]) + weights @ l2_normalize(x[firsts])
    truth = (l2_normalize(asked) @ l2_normalize(x).T)[0]
    hits = chunks.similar(chunks.ids[own], k=3, group=True, expand=2)
    best = sorted(np.flatnonzero(texts != "a"), key=lambda row: -truth[row])
    assert [hit.id for hit in hits] == [chunks.ids[row] for row in best]
    assert [hit.score for hit in hits] == pytest.approx(truth[best].tolist(), abs=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(2, 8))
def test_one_answer_never_changes_who_is_first(seed, n, dim):
    rng = np.random.default_rng(seed)
    x, q = (l2_normalize(rng.normal(size=(rows, dim)).astype(np.float32)) for rows in (n, 3))
    scores = q @ x.T
    first = scores.argmax(axis=1)
    found = [(np.array([row]), np.array([score])) for row, score in zip(first, scores.max(axis=1), strict=True)]
    new = joined(q, found, lambda rows: x[rows])
    np.testing.assert_allclose(np.linalg.norm(new, axis=1), 1, atol=1e-6)
    again = new @ x.T
    np.testing.assert_allclose(again[np.arange(3), first], again.max(axis=1), atol=1e-6)


def test_evaluate_judges_what_was_expanded(index, drawn):
    x, labels, _ = drawn
    own = np.arange(N)
    judged = index.evaluate(label_column="kind", k=5, expand=4)
    scores = oracle.scores_of(expanded(x, x, 4, own=own), x, "cosine")
    np.fill_diagonal(scores, -np.inf)
    right = labels[np.argsort(-scores, axis=1)] == labels[:, None]
    n = (labels[:, None] == labels).sum(axis=1) - 1
    assert judged.exact["P@1"].mean == pytest.approx(right[:, 0].mean())
    assert judged.exact["recall@5"].mean == pytest.approx((right[:, :5].sum(axis=1) / n).mean())
    assert judged.found["recall@5"].mean == pytest.approx(judged.exact["recall@5"].mean)
    assert judged.exact["recall@5"].mean != index.evaluate(label_column="kind", k=5).exact["recall@5"].mean
    assert "each query was joined with its 4 best answers (--expand)" in judged.notes


def test_only_what_may_answer_joins_where_it_is_judged(index, drawn):
    x, labels, _ = drawn
    asked, allowed = np.flatnonzero(np.arange(N) % 2 == 1), np.arange(N) % 2 == 0
    judged = index.evaluate(label_column="kind", query_where="part = 'b'", where="part = 'a'", expand=4)
    scores = oracle.scores_of(expanded(x[asked], x, 4, allowed), x, "cosine")
    first = np.where(allowed, scores, -np.inf).argmax(axis=1)
    for figures in (judged.exact, judged.found):
        assert figures["P@1"].mean == pytest.approx((labels[first] == labels[asked]).mean())


def test_exact_figures_do_not_depend_on_what_the_index_finds(index, monkeypatch):
    truth = index.evaluate(label_column="kind", expand=3).exact
    search = Searcher.search

    def worse(self, asked, k, *args, **kwargs):
        rows, scores = search(self, asked, k + 9, *args, **kwargs)
        return rows[:, 9:], scores[:, 9:]

    monkeypatch.setattr(Searcher, "search", worse)
    judged = index.evaluate(label_column="kind", expand=3)
    assert judged.exact == truth and judged.found["P@1"].mean < truth["P@1"].mean


def printed(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        run([str(each) for each in arguments])
    told = capsys.readouterr()
    return end.value.code, told


def test_the_commands(index, drawn, tmp_path, capsys):
    _, _, queries = drawn
    np.save(tmp_path / "q.npy", queries[:2])
    code, told = printed(capsys, "query", index.path, tmp_path / "q.npy", "--expand", 3, "-k", 4, "--json")
    assert code == 0, told.err
    ids, scores = index.search_vectors(queries[:2], k=4, expand=3)
    answers = json.loads(told.out)
    assert [[hit["id"] for hit in answer["hits"]] for answer in answers] == ids.tolist()
    assert [hit["score"] for hit in answers[0]["hits"]] == pytest.approx(scores[0].tolist(), abs=1e-6)
    code, told = printed(capsys, "evaluate", index.path, "--label-column", "kind", "--expand", 3, "--json")
    assert code == 0, told.err
    truth = index.evaluate(label_column="kind", expand=3)
    assert json.loads(told.out)["exact"]["mAP"]["mean"] == pytest.approx(truth.exact["mAP"].mean)
    code, told = printed(capsys, "query", index.path, "--id", 1, "--expand", -2)
    assert code == 2 and "expand is -2" in told.err
