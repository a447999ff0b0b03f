"""Several indexes over the same ids."""

import numpy as np
import pytest
from recommending import scored

import embedsearch as es
from embedsearch.errors import UnknownNameError, UsageError


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Contents of 300 items, factors of 280 of them and of 20 others, in another order."""
    rng = np.random.default_rng(5)
    root = tmp_path_factory.mktemp("blend")
    content = rng.normal(size=(300, 12)).astype(np.float32)
    factors = rng.normal(size=(300, 8)).astype(np.float32)
    names = [f"i{n}" for n in range(300)]
    theirs = [*rng.permutation(names[:280]).tolist(), *(f"only-{n}" for n in range(20))]
    shop = {"shop": [n % 4 for n in range(300)]}
    first = es.build(content, root / "content", ids=names, metadata=shop)
    return first, es.build(factors, root / "factors", ids=theirs, metric="ip"), content, factors, names, theirs


def expected(sides, liked, weights, how, depth=100):
    """By hand: the ranks or scaled scores of both, of 100 candidates each."""
    _, _, content, factors, names, theirs = sides
    total = {}
    for x, metric, ids, strategy, weight in (
        (content, "cosine", names, "max", weights[0]),
        (factors, "ip", theirs, "centroid", weights[1]),
    ):
        rows = [ids.index(item) for item in liked if item in ids]
        scores = scored(x, metric, strategy, rows)
        best = np.argsort(-scores, kind="stable")[:depth]
        low, high = scores[best[-1]], scores[best[0]]
        for rank, row in enumerate(best, start=1):
            told = 1 / (60 + rank) if how == "rank" else (scores[row] - low) / (high - low)
            total[ids[row]] = total.get(ids[row], 0) + weight / sum(weights) * told
    return total


@pytest.mark.parametrize("how", ["rank", "score"])
@pytest.mark.parametrize("weights", [[1, 1], [0.3, 1]])
def test_fused_by_hand(sides, how, weights):
    rec = es.Recommender(sides[:2], weights=weights, fusion=how)
    assert len(rec) == 320
    liked = ["i3", "i40", "i290", "only-4"]
    ids, scores = rec.recommend(liked, k=10, strategy=["max", "centroid"])
    truth = expected(sides, liked, weights, how)
    best = sorted(truth.values(), reverse=True)[:10]
    np.testing.assert_allclose(scores, best, rtol=1e-3)
    np.testing.assert_allclose([truth[item] for item in ids], best, rtol=1e-3)


def test_ids_that_one_of_them_lacks(sides):
    rec = es.Recommender(sides[:2])
    for liked in (["i295"], ["only-3"], ["i295", "only-3"]):
        found = rec.recommend(liked, k=15)
        assert len(found.ids) == 15 and not set(found.ids) & set(liked)
    everything = rec.recommend(["i1"], k=400)
    assert set(everything.ids) == {*rec.ids} - {"i1"}
    assert "319 items are left" in everything.notes[0]
    with pytest.raises(UnknownNameError, match="'i999' is not known"):
        rec.recommend(["i999"])


def test_conditions_and_caps_are_of_the_first(sides):
    rec = es.Recommender(sides[:2])
    found = rec.recommend(["i1", "only-2"], k=100, where="shop = 1")
    assert len(found.ids) == 74 and all(int(item[1:]) % 4 == 1 for item in found.ids)
    capped = rec.recommend(["i1"], k=12, max_per={"shop": 2})
    shops = [int(item[1:]) % 4 for item in capped.ids if item.startswith("i")]
    assert len(capped.ids) == 12 and np.bincount(shops, minlength=4).max() <= 2
    varied = rec.recommend(["i1"], k=12, diversity=0.5, because=1)
    assert len(set(varied.ids)) == 12 and varied.because[0][0] == ["i1"]


def test_new_inputs_go_where_they_fit(sides):
    content = sides[2]
    rec = es.Recommender(sides[:2])
    alone = es.Recommender(sides[0])
    assert rec.recommend([content[7]], k=5, strategy="max").ids.tolist() == (
        alone.recommend([content[7]], k=5, strategy="max").ids.tolist()
    )
    both = rec.recommend_many([[content[7]], ["i7"]], k=5)
    assert both.ids.shape == (2, 5) and "i7" in both.ids[0]
    with pytest.raises(UsageError, match="neither an id nor"):
        rec.recommend([np.ones(5)])


def test_similar_items_and_matrices(sides):
    rec = es.Recommender(sides[:2])
    assert rec.similar_items("i5", k=4).ids.shape == (4,)
    matrix = np.zeros((2, 320))
    matrix[0, [3, 319]] = 1
    matrix[1, 7] = 2
    sparse = pytest.importorskip("scipy.sparse").csr_matrix(matrix)
    found = rec.recommend_many(sparse, k=6)
    named = rec.recommend_many([["i3", rec.ids[319]], ["i7"]], k=6)
    assert (found.ids == named.ids).all()


def test_vectors_for_diversity_are_weighted_cosines(sides):
    first, second, content, factors, names, theirs = sides
    rec = es.Recommender([first, second], weights=[1, 3])
    ids = ["i3", "i9", "i290"]
    vectors = rec.item_vectors(ids)
    cosine = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (content, factors)]
    a, b = (names.index(ids[0]), names.index(ids[1])), (theirs.index(ids[0]), theirs.index(ids[1]))
    truth = 0.25 * cosine[0][a[0]] @ cosine[0][a[1]] + 0.75 * cosine[1][b[0]] @ cosine[1][b[1]]
    assert vectors[0] @ vectors[1] == pytest.approx(truth, abs=1e-5)
    assert vectors[0] @ vectors[2] == pytest.approx(0.25 * cosine[0][a[0]] @ cosine[0][290], abs=1e-5)


def test_wrong_blends(sides):
    for wrong, message in (
        ({"weights": [1]}, "1 weights for 2 indexes"),
        ({"weights": [1, 0]}, "each must be above 0"),
        ({"weights": [1, float("nan")]}, "each must be above 0"),
        ({"fusion": "sum"}, "fusion 'sum' is not known"),
    ):
        with pytest.raises(UsageError, match=message):
            es.Recommender(sides[:2], **wrong)
    with pytest.raises(UsageError, match="1 strategies for 2 indexes"):
        es.Recommender(sides[:2]).recommend(["i1"], strategy=["max"])
    with pytest.raises(UsageError, match="an Index"):
        es.Recommender([])


def test_it_follows_either_index(sides, tmp_path):
    rng = np.random.default_rng(0)
    first = es.build(rng.normal(size=(50, 4)).astype(np.float32), tmp_path / "a")
    second = es.build(rng.normal(size=(50, 4)).astype(np.float32), tmp_path / "b", metric="ip")
    rec = es.Recommender([first, second])
    second.add(rng.normal(size=(2, 4)).astype(np.float32), ids=["x", "y"])
    assert len(rec) == 52 and rec.recommend(["x", "3"], k=3).ids.shape == (3,)
    first.delete(["3"])
    assert "3" in rec.ids and rec.ids[-1] == "y"
    assert set(rec.recommend(["3"], k=60).ids) == set(rec.ids) - {"3"}
