"""The whole road of recommending over one index, against brute force."""

import sys

import numpy as np
import pytest
from recommending import assert_best, likeness, scored
from scipy.sparse import csr_matrix

import embedsearch as es
from embedsearch.errors import ItemError, UnknownNameError, UsageError

METRICS = ["cosine", "ip", "l2"]


@pytest.fixture(scope="module")
def x():
    """900 x 16 of low intrinsic dimension, in groups."""
    rng = np.random.default_rng(3)
    groups = 2 * rng.normal(size=(12, 5))[rng.integers(0, 12, 900)] + rng.normal(size=(900, 5))
    return (groups @ rng.normal(size=(5, 16))).astype(np.float32)


@pytest.fixture(scope="module")
def metadata(x):
    rng = np.random.default_rng(4)
    brands = [None if n % 11 == 0 else f"b{n % 5}" for n in rng.permutation(len(x))]
    return {"brand": brands, "price": rng.permutation(len(x)).tolist(), "shop": (np.arange(len(x)) % 3).tolist()}


@pytest.fixture(scope="module")
def indexes(x, metadata, tmp_path_factory):
    root = tmp_path_factory.mktemp("recommend")
    return {metric: es.build(x, root / metric, metric=metric, metadata=metadata) for metric in METRICS}


@pytest.fixture(scope="module")
def graph(x, metadata, tmp_path_factory):
    root = tmp_path_factory.mktemp("graph")
    return es.build(x, root / "x", metric="cosine", metadata=metadata, index="graph", recall=0.99)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("strategy", ["centroid", "agreement", "max"])
@pytest.mark.parametrize("disliked", [[], [5, 77]])
def test_each_strategy_is_its_formula(metric, strategy, disliked, indexes, x):
    rng = np.random.default_rng(1)
    for n in (1, 3, 40):
        liked = rng.choice(np.setdiff1d(np.arange(900), disliked), n, replace=False)
        weights = rng.uniform(0.5, 5, n)
        found = es.Recommender(indexes[metric]).recommend(
            [str(row) for row in liked], [str(row) for row in disliked], weights, k=10, strategy=strategy
        )
        truth = scored(x, metric, strategy, liked, weights, disliked)
        ids, scores = found
        tolerance = 1e-4 * np.abs(truth[np.isfinite(truth)]).max()
        if np.isfinite(truth).sum() >= 10:
            assert_best(ids, scores, truth, 10, tolerance)
        else:  # of agreement with two dislikes for one like: the rest comes from deeper lists
            assert disliked and strategy == "agreement"
            n_first = int(np.isfinite(truth).sum())
            assert_best(ids[:n_first], scores[:n_first], truth, n_first, tolerance)
        assert ids.shape == scores.shape == (10,) and scores.dtype == np.float32 and found.notes == [None]


@pytest.mark.parametrize("scale", [1e-320, 1e-50, 1, 1e40, 1e307])
def test_only_ratios_of_weights_matter(scale, indexes):
    """The largest counts as 1, so that none is lost in float32."""
    rec = es.Recommender(indexes["cosine"])
    rng = np.random.default_rng(6)
    liked = [str(row) for row in rng.choice(np.arange(100, 900), 20, replace=False)]
    weights = rng.integers(1, 9, 20).astype(float)
    for strategy in ("centroid", "agreement", "max", "clusters"):
        for disliked in ([], ["5", "77"]):
            plain = rec.recommend(liked, disliked, weights / 8, k=12, strategy=strategy)
            scaled = rec.recommend(liked, disliked, weights * scale, k=12, strategy=strategy)
            assert scaled.ids.tolist() == plain.ids.tolist()
            np.testing.assert_allclose(scaled.scores, plain.scores, rtol=1e-5, atol=1e-6)
        signed = {**dict(zip(liked, weights, strict=True)), "5": -4.0}
        many = rec.recommend_many([signed, {item: w * scale for item, w in signed.items()}], k=12, strategy=strategy)
        assert many.ids[0].tolist() == many.ids[1].tolist()


def nearest(x, row, n):
    alike = likeness(x[row][None], x, "cosine")[0]
    alike[row] = -np.inf
    return {str(other) for other in np.argsort(-alike, kind="stable")[:n]}


def test_neighbours_of_what_is_disliked_are_no_candidates(indexes, x):
    """Rows that stand in its list alone; they come where a deeper list of a favourite holds them, not before."""
    rec = es.Recommender(indexes["cosine"])
    liked, far = "3", str(int(np.argmin(likeness(x[3][None], x, "cosine")[0])))
    foes = nearest(x, int(far), 20)
    assert not foes & nearest(x, 3, 400)
    for options in ({}, {"diversity": 0.5}, {"max_per": {"shop": 30}}):
        found = rec.recommend([liked], [far], k=60, strategy="agreement", **options)
        assert len(found.ids) == 60 and not foes & set(found.ids)
    both = es.Recommender([indexes["cosine"], indexes["cosine"]])
    found = both.recommend([liked], [far], k=60, strategy="agreement")
    assert len(found.ids) == 60 and not foes & set(found.ids)
    everything = rec.recommend([liked], [far], k=900, strategy="agreement")
    assert len(set(everything.ids)) == 898 and (np.diff(everything.scores) <= 0).all()


def test_deeper_lists_of_agreement_stand_behind(indexes, x):
    """Whatever number is asked for, the first answers are the same, with the same scores."""
    rec = es.Recommender(indexes["cosine"])
    liked = [3, 40, 300]
    truth = scored(x, "cosine", "agreement", liked)
    n_first = int(np.isfinite(truth).sum())
    everything = rec.recommend([str(row) for row in liked], k=900, strategy="agreement")
    assert len(set(everything.ids)) == 897
    assert_best(everything.ids[:n_first], everything.scores[:n_first], truth, n_first)
    for k in (10, n_first + 5, 100, 400):
        found = rec.recommend([str(row) for row in liked], k=k, strategy="agreement")
        assert found.ids.tolist() == everything.ids[:k].tolist()
        np.testing.assert_allclose(found.scores, everything.scores[:k])
    second = set(everything.ids[n_first : n_first + 20])
    assert second <= set.union(*(nearest(x, row, 80) for row in liked))
    assert everything.scores[n_first] <= 0 < everything.scores[n_first - 1]


@pytest.mark.parametrize("strategy", ["agreement", "max"])
@pytest.mark.parametrize("metric", METRICS)
def test_a_favourite_that_may_come_back_has_its_own_score(metric, strategy, indexes, x):
    rec = es.Recommender(indexes[metric])
    liked, weights = [3, 40, 300], [1.0, 4.0, 2.0]
    found = rec.recommend(
        [str(row) for row in liked], ["9"], weights, k=12, strategy=strategy, exclude_liked=False, because=1
    )
    truth = scored(x, metric, strategy, liked, weights, [9], exclude_liked=False)
    assert_best(found.ids, found.scores, truth, 12, 1e-4 * np.abs(truth[np.isfinite(truth)]).max())
    if metric != "ip":
        assert found.because[0][found.ids.tolist().index("40")] == ["40"]
    met = rec.recommend(["3", "40"], k=3, where="id = '40'", strategy=strategy, exclude_liked=False)
    assert met.ids.tolist() == ["40"] and "1 item" in met.notes[0]


def test_lists_that_are_counted_at_once_are_bounded(indexes, monkeypatch):
    """Users come in blocks whose lists, as deep as they are, stay within the limit."""
    from embedsearch.pipeline.recommend import answer, candidates

    rec = es.Recommender(indexes["cosine"])
    histories = [{str(row): 1 if row % 7 else -1 for row in range(n, n + 10)} for n in range(1, 41)]
    plain = {s: rec.recommend_many(histories, k=30, strategy=s) for s in ("max", "agreement")}
    looked, lists = [], candidates._lists

    def counted(asked, histories, depth):
        looked.append(len(histories.items) * depth)
        return lists(asked, histories, depth)

    monkeypatch.setattr(answer, "_LIST_ENTRIES", 6000)
    monkeypatch.setattr(candidates, "_lists", counted)
    for strategy, truth in plain.items():
        looked.clear()
        found = rec.recommend_many(histories, k=30, strategy=strategy)
        assert len(looked) > 1 and max(looked) <= 6000 + 10 * 900
        assert (found.ids == truth.ids).all()
    assert rec.recommend_many(histories[:1], k=30, diversity=0.2, strategy="max").ids.shape == (1, 30)


@pytest.mark.parametrize("strategy", ["auto", "centroid", "agreement", "max", "clusters"])
@pytest.mark.parametrize("metric", METRICS)
def test_many_are_as_one_by_one(strategy, metric, indexes):
    """Batches above and below the size where products take over; the same from lists, mappings and a matrix."""
    rng = np.random.default_rng(2)
    rec = es.Recommender(indexes[metric])
    matrix = np.zeros((70, 900))
    for user in range(70):
        n = rng.integers(1, 60)
        matrix[user, rng.choice(900, n, replace=False)] = rng.integers(-1, 5, n)
    matrix[:, :2] = [1, 0.5]
    sparse = csr_matrix(matrix)
    ids, scores = rec.recommend_many(sparse, k=12, strategy=strategy)
    assert ids.shape == scores.shape == (70, 12) and scores.dtype == np.float32
    mappings = [{str(item): matrix[user, item] for item in np.flatnonzero(matrix[user])} for user in range(70)]
    again = rec.recommend_many(mappings, k=12, strategy=strategy)
    assert (again.ids == ids).all()
    few = rec.recommend_many(mappings[:5], k=12, strategy=strategy)
    np.testing.assert_allclose(few.scores, scores[:5], atol=1e-4 * np.abs(scores).max())
    one = rec.recommend({item: w for item, w in mappings[7].items() if w > 0}, k=12, strategy=strategy)
    if not (matrix[7] < 0).any():
        np.testing.assert_allclose(one.scores, scores[7], atol=1e-4 * np.abs(scores).max())
    for user in range(70):
        assert not set(ids[user]) & set(mappings[user])


def test_a_matrix_with_named_columns(indexes):
    rec = es.Recommender(indexes["cosine"])
    matrix = csr_matrix(np.array([[1.0, 0, 2], [0, 1, 0]]))
    found = rec.recommend_many(matrix, k=4, items=["8", "30", "5"])
    assert (found.ids == rec.recommend_many([{"8": 1, "5": 2}, ["30"]], k=4).ids).all()
    with pytest.raises(UsageError, match=r"3 columns, the index 900 items; give items="):
        rec.recommend_many(matrix)
    with pytest.raises(UsageError, match="3 columns, items names 1"):
        rec.recommend_many(matrix, items=["8"])
    with pytest.raises(UnknownNameError, match="'none' is not known"):
        rec.recommend_many(matrix, items=["8", "none", "5"])


@pytest.mark.parametrize("metric", METRICS)
def test_similar_items(metric, indexes, x):
    rec = es.Recommender(indexes[metric])
    for row in (0, 7):
        ids, scores = rec.similar_items(str(row), k=6)
        truth = likeness(x[row][None], x, metric)[0]
        truth[row] = -np.inf
        assert_best(ids, scores, truth, 6, 1e-4 * np.abs(scores).max())
    ids, scores = rec.similar_items(["0", "7"], k=6)
    assert ids.shape == (2, 6) and (ids[1] == rec.similar_items("7", k=6).ids).all()
    assert (rec.similar_items(x[0], k=1).ids == ["0"]).all() or metric == "ip"


def test_clusters_share_the_slots(tmp_path):
    """Three interests far apart, of 12, 6 and 6 items liked: half of the answers are of the first."""
    rng = np.random.default_rng(0)
    x = (20 * np.eye(3, 8)[np.arange(300) % 3] + rng.normal(size=(300, 8))).astype(np.float32)
    rec = es.Recommender(es.build(x, tmp_path / "x"))
    groups = [np.arange(start, 300, 3) for start in range(3)]
    liked = [*groups[0][:12], *groups[1][:6], *groups[2][:6]]
    ids, scores = rec.recommend([str(row) for row in liked], k=8, strategy="clusters")
    assert np.bincount([int(item) % 3 for item in ids]).tolist() == [4, 2, 2]
    assert (np.diff(scores) <= 0).all()
    one_sided = rec.recommend([str(row) for row in liked], k=8, strategy="max")
    assert len(set(one_sided.ids)) == 8


@pytest.mark.parametrize("strategy", ["centroid", "agreement", "max", "clusters"])
@pytest.mark.parametrize("where", [None, "price < 100", "price < 25", "price < 4"])
def test_as_many_as_there_are_whatever_is_left_out(strategy, where, indexes, metadata):
    """Of all that meet the condition, and everything near excluded, exactly those that are left come back."""
    met = np.ones(900, bool) if where is None else np.array(metadata["price"]) < int(where.split()[-1])
    rec = es.Recommender(indexes["cosine"])
    near = rec.similar_items("3", k=200).ids.tolist()
    out = {"3", "10", *near}
    left = {str(row) for row in np.flatnonzero(met)} - out
    found = rec.recommend(["3", "10"], k=30, exclude=near, where=where, strategy=strategy)
    assert len(found.ids) == min(30, len(left)) == len(set(found.ids)) and set(found.ids) <= left
    assert np.isfinite(found.scores).all()
    if len(left) < 30:
        assert found.notes[0].startswith(f"{len(left)} item") and "30 were asked for" in found.notes[0]


def test_everything_excluded(indexes):
    rec = es.Recommender(indexes["cosine"])
    found = rec.recommend(["3"], k=5, exclude=rec.ids)
    assert found.ids.shape == found.scores.shape == (0,)
    assert found.notes == ["0 items are left to recommend, 5 were asked for; 900 are left out as known or excluded"]
    found = rec.recommend(["3"], k=5, where="price < 0")
    assert len(found.ids) == 0 and "0 items that meet the condition are left" in found.notes[0]


def test_k_above_all(indexes):
    found = es.Recommender(indexes["l2"]).recommend(["3", "4"], k=5000, strategy="agreement")
    assert len(set(found.ids)) == 898 and "898 items are left" in found.notes[0]


def test_liked_items_come_back_only_when_asked_for(indexes):
    rec = es.Recommender(indexes["cosine"])
    ids, _ = rec.recommend(["3"], k=1, exclude_liked=False, strategy="centroid")
    assert ids.tolist() == ["3"]
    ids, _ = rec.recommend(["3"], ["4"], k=900, exclude_liked=False)
    assert "3" in ids and "4" not in ids and len(ids) == 899


def test_a_weight_of_nothing_pulls_nothing(indexes):
    rec = es.Recommender(indexes["cosine"])
    for strategy in ("centroid", "agreement", "max", "clusters"):
        with_zero = rec.recommend({"3": 2, "500": 0}, k=8, strategy=strategy)
        without = rec.recommend({"3": 2}, k=8, exclude=["500"], strategy=strategy)
        assert (with_zero.ids == without.ids).all() and "500" not in with_zero.ids


def test_caps_and_diversity_keep_k(indexes, metadata, x):
    rec = es.Recommender(indexes["cosine"])
    brand = dict(zip(map(str, range(900)), metadata["brand"], strict=True))
    liked = ["1", "2", "40"]
    plain = rec.recommend(liked, k=15, strategy="max")
    same = rec.recommend(liked, k=15, strategy="max", diversity=0)
    assert (plain.ids == same.ids).all()
    capped = rec.recommend(liked, k=10, strategy="max", max_per={"brand": 1, "shop": 10})
    brands = [brand[item] for item in capped.ids if brand[item] is not None]
    assert len(capped.ids) == 10 and len(brands) == len(set(brands)) == 5  # the others have none
    assert capped.ids[0] == plain.ids[0]
    short = rec.recommend(liked, k=10, max_per={"shop": 2})
    assert len(short.ids) == 6 and "within max_per" in short.notes[0]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)

    def alike(found):
        mine = unit[[int(item) for item in found.ids]]
        return (mine @ mine.T)[np.triu_indices(len(mine), 1)].mean()

    likenesses = [alike(rec.recommend(liked, k=10, strategy="max", diversity=share)) for share in (0, 0.3, 0.7, 1)]
    assert likenesses == sorted(likenesses, reverse=True) and likenesses[0] > likenesses[-1] + 0.2


def test_what_is_disliked_pushes_away(indexes, x):
    rec = es.Recommender(indexes["cosine"])
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    liked = ["1", "2", "40"]
    for strategy in ("centroid", "agreement", "max", "clusters"):
        before = rec.recommend(liked, k=20, strategy=strategy)
        enemy = before.ids[0]
        after = rec.recommend(liked, [enemy], k=20, strategy=strategy)
        assert enemy not in after.ids
        without = rec.recommend(liked, k=20, strategy=strategy, exclude=[enemy])
        near = [unit[[int(item) for item in found.ids]] @ unit[int(enemy)] for found in (without, after)]
        assert near[1].mean() < near[0].mean() - 1e-4, strategy


def rank_of(x, row, other):
    """Of another row in the list of neighbours of one, from 1."""
    alike = likeness(x[row][None], x, "cosine")[0]
    alike[row] = -np.inf
    return int((alike > alike[other]).sum()) + 1


def test_reasons(indexes, x):
    rec = es.Recommender(indexes["cosine"])
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    liked = ["1", "2", "40", "300"]
    for strategy in ("max", "agreement", "centroid", "clusters"):
        found = rec.recommend(liked, k=6, strategy=strategy, because=2)
        assert len(found.because) == 1 and len(found.because[0]) == 6
        for item, reasons in zip(found.ids, found.because[0], strict=True):
            assert 1 <= len(reasons) <= 2 and set(reasons) <= set(liked)
            if strategy == "agreement":
                ranks = {row: rank_of(x, int(row), int(item)) for row in liked}
                inside = sorted((row for row in liked if ranks[row] <= 20), key=ranks.__getitem__)
                assert [ranks[row] for row in reasons] == [ranks[row] for row in inside[:2]]
            if strategy in ("max", "centroid"):
                assert reasons[0] == liked[int(np.argmax(unit[[int(row) for row in liked]] @ unit[int(item)]))]
    many = rec.recommend_many([liked, []], k=3, because=1)
    assert len(many.because[0]) == 3 and many.because[1] == []
    assert rec.recommend(liked, k=3).because is None


def test_vectors_that_no_index_holds(indexes, x):
    rec = es.Recommender(indexes["cosine"])
    for strategy in ("centroid", "agreement", "max", "clusters"):
        mixed = rec.recommend([x[5] * 3, "9"], [x[800]], k=900, strategy=strategy, because=3)
        assert "5" in mixed.ids and "9" not in mixed.ids  # what was given is no item
        assert {reason for reasons in mixed.because[0] for reason in reasons} <= {"#0", "9"}
        if strategy == "centroid":
            truth = scored(x, "cosine", strategy, [5, 9], None, [800])
            kept = [item for item in mixed.ids if item not in ("5", "800")]
            assert_best(kept, mixed.scores[[item not in ("5", "800") for item in mixed.ids]], truth, 897)
    assert rec.recommend([x[5]], k=1, strategy="max").ids.tolist() == ["5"]
    assert rec.recommend([x[5].tolist()], k=1).ids.tolist() == ["5"]


def test_approximate_indexes_find_nearly_the_same(graph, x):
    rec = es.Recommender(graph)
    rng = np.random.default_rng(0)
    shares = []
    for strategy in ("centroid", "agreement", "max"):
        histories = [rng.choice(900, 8, replace=False) for _ in range(20)]
        found = rec.recommend_many([[str(row) for row in rows] for rows in histories], k=10, strategy=strategy)
        for rows, ids in zip(histories, found.ids, strict=True):
            best = np.argsort(-scored(x, "cosine", strategy, rows), kind="stable")[:10]
            shares.append(np.mean([int(item) in best for item in ids]))
    assert np.mean(shares) > 0.95


def test_it_follows_its_index(x, tmp_path):
    index = es.build(x[:100], tmp_path / "x")
    rec = es.Recommender(index)
    assert len(rec) == 100 and rec.recommend(["0"], k=200).ids.shape == (99,)
    index.add(x[100:110], ids=[f"new-{n}" for n in range(10)])
    assert len(rec) == 110 and "new-3" in rec.ids
    assert rec.similar_items(x[103], k=1).ids.tolist() == ["new-3"]
    index.delete(["0"])
    with pytest.raises(UnknownNameError, match="'0' is not known"):
        rec.recommend(["0"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"liked": []}, "liked is empty"),
        ({"liked": "3"}, "liked is a list"),
        ({"liked": None}, "liked is None; it must be a list of ids"),
        ({"liked": np.zeros(16, np.float32)}, r"liked is one vector; wrap it in a list: \[vector\]"),
        ({"liked": [0.5, 1.5]}, "wrap it in a list"),
        ({"liked": [np.zeros(16)]}, "holds only zeros"),
        ({"liked": ["3"], "max_per": "brand"}, r"max_per is 'brand'; give a mapping .* \{'brand': 2\}"),
        ({"liked": ["3"], "because": -1}, "because is -1; it must be at least 0"),
        ({"liked": ["3"], "because": "all"}, "because is 'all'; it must be a whole number"),
        ({"liked": ["3"], "exclude": "S00008"}, "'S00008' is not known"),
        ({"liked": ["3"], "weights": [np.nan]}, "weights hold nan at 0"),
        ({"liked": ["3"], "weights": [-1]}, "goes into disliked"),
        ({"liked": ["3"], "weights": [0]}, "all weights are 0"),
        ({"liked": ["3"], "weights": [1, 2]}, "2 weights for 1 liked"),
        ({"liked": ["3"], "weights": ["much"]}, "weights must be numbers"),
        ({"liked": ["3"], "disliked": ["3"]}, "'3' is both liked and disliked"),
        ({"liked": ["3"], "k": 0}, "k is 0"),
        ({"liked": ["3"], "k": 2.5}, "k is 2.5"),
        ({"liked": ["3"], "diversity": 2}, "diversity is 2"),
        ({"liked": ["3"], "diversity": float("nan")}, "diversity is nan"),
        ({"liked": ["3"], "strategy": "centriod"}, "did you mean 'centroid'"),
        ({"liked": ["3"], "max_per": {"brnd": 1}}, "did you mean 'brand'"),
        ({"liked": ["3"], "max_per": {"brand": 0}}, r"max_per\['brand'\] is 0"),
        ({"liked": ["3"], "where": "prize < 3"}, "columns: id, brand, price, shop"),
        ({"liked": ["none"]}, "'none' is not known"),
        ({"liked": ["3"], "exclude": ["none"]}, "'none' is not known"),
        ({"liked": ["3"], "disliked": ["none"]}, "'none' is not known"),
        ({"liked": [np.zeros(7)]}, "neither an id nor something that can be encoded"),
        ({"liked": [np.full(16, np.nan)]}, "NaN"),
        ({"liked": [None]}, "neither an id nor"),
    ],
)
def test_what_cannot_be_meant(call, message, indexes):
    with pytest.raises(UsageError, match=message):
        es.Recommender(indexes["cosine"]).recommend(**call)


def test_wrong_batches(indexes):
    rec = es.Recommender(indexes["cosine"])
    for wrong in ("3", {"3": 1}, ["3", "4"], 5):
        with pytest.raises(UsageError, match="user_items"):
            rec.recommend_many(wrong)
    with pytest.raises(UsageError, match="user_items hold nan"):
        rec.recommend_many(csr_matrix(np.where(np.eye(3, 900) > 0, np.nan, 0)))
    with pytest.raises(UsageError, match="items names the columns"):
        rec.recommend_many([["3"]], items=["3"])
    for wrong in ("indexes/x", None, 5):
        with pytest.raises(UsageError, match="an Index"):
            es.Recommender(wrong)
    for dense in (np.ones((2, 900)), np.ones((2, 900), int), np.ones((2, 4))):
        with pytest.raises(UsageError, match=r"dense matrix; give a sparse one: scipy.sparse.csr_matrix"):
            rec.recommend_many(dense)
    with pytest.raises(UsageError, match="items names '8' twice"):
        rec.recommend_many(csr_matrix(np.ones((1, 3))), items=["8", "5", "8"])
    for several in (np.ones((2, 16)), [np.ones(16), np.ones(16)]):
        with pytest.raises(UsageError, match=r"one vector, or a list of ids; .*strategy='max'") as told:
            rec.similar_items(several)
        assert "array" not in str(told.value)
    with pytest.raises(UsageError, match="because is -1"):
        rec.recommend_many([["3"]], because=-1)
    with pytest.raises(UsageError, match="at least one"):
        rec.similar_items([])


def test_what_else_may_be_given(indexes):
    """One id to leave out, sets, an array of ids for each user."""
    rec = es.Recommender(indexes["cosine"])
    first = rec.recommend(["3"], k=3).ids[0]
    assert rec.recommend(["3"], k=2, exclude=first).ids.tolist() == rec.recommend(["3"], k=3).ids[1:].tolist()
    truth = rec.recommend_many([["3", "40"], ["7"]], k=3).ids.tolist()
    assert rec.recommend_many([{"3", "40"}, frozenset(["7"])], k=3).ids.tolist() == truth
    assert rec.recommend_many(np.array([[3, 40], [7, 7]]), k=3).ids.tolist() == truth


@pytest.mark.parametrize("strategy", ["centroid", "agreement", "max", "clusters"])
def test_an_item_that_comes_twice_weighs_the_sum(strategy, indexes):
    rec = es.Recommender(indexes["cosine"])
    twice = rec.recommend(["3", "40", "3"], weights=[1, 2, 3], k=8, strategy=strategy)
    once = rec.recommend({"3": 4, "40": 2}, k=8, strategy=strategy)
    assert twice.ids.tolist() == once.ids.tolist()
    np.testing.assert_allclose(twice.scores, once.scores, rtol=1e-6)
    matrix = csr_matrix((np.array([1.0, -1, 1]), np.array([3, 3, 40]), np.array([0, 3])), shape=(1, 900))
    found = rec.recommend_many(matrix, k=8, strategy=strategy)
    alone = rec.recommend({"40": 1, "3": 0}, k=8, strategy=strategy)
    assert found.ids[0].tolist() == alone.ids.tolist()


def test_reasons_name_the_callers_place(indexes, x):
    rec = es.Recommender(indexes["cosine"])
    found = rec.recommend(["3", x[40], x[5]], weights=[0, 1, 0.01], k=2, because=1, strategy="max")
    assert found.because[0] == [["#1"], ["#1"]]


def test_users_without_a_history(indexes):
    found = es.Recommender(indexes["cosine"]).recommend_many([["3"], [], {"4": -1}], k=2)
    assert found.ids[1:].tolist() == [[None] * 2] * 2 and np.isnan(found.scores[1:]).all()
    assert found.notes[0] is None and found.notes[1:] == ["nothing is liked, so there is nothing to go by"] * 2
    assert es.Recommender(indexes["cosine"]).recommend_many([], k=2).ids.shape == (0, 2)


def test_an_emptied_index_of_several(tmp_path, x):
    """It knows nothing, and the other answers."""
    full = es.build(x[:50], tmp_path / "full")
    empty = es.build(x[:1], tmp_path / "empty", ids=["0"])
    empty.delete(["0"])
    rec = es.Recommender([full, empty])
    for strategy in ("centroid", "agreement", "max", "clusters"):
        found = rec.recommend([x[7], "4"], k=6, strategy=strategy, because=1, diversity=0.1)
        alone = es.Recommender(full).recommend([x[7], "4"], k=6, strategy=strategy)
        assert len(found.ids) == 6 and found.ids[0] == alone.ids[0]
        assert {reason for reasons in found.because[0] for reason in reasons} <= {"#0", "4"}


def test_values_that_are_not_a_number_are_none(tmp_path, x):
    price = [float("nan")] * 20 + [1.0] * 20
    rec = es.Recommender(es.build(x[:40], tmp_path / "x", metadata={"price": price}))
    found = rec.recommend(["0"], k=30, max_per={"price": 2})
    assert sorted(item for item in found.ids if int(item) < 20) == sorted(str(row) for row in range(1, 20))
    assert len(found.ids) == 21


def test_an_empty_index(tmp_path):
    index = es.build(np.empty((0, 4), np.float32), tmp_path / "x")
    found = es.Recommender(index).recommend([np.ones(4)], k=3)
    assert len(found.ids) == 0 and found.notes == ["the index is empty"]


def test_pictures_and_texts_that_are_new(photo_index, emoji, tmp_path):
    from PIL import Image

    rec = es.Recommender(photo_index)
    known = photo_index.ids[4]
    path = emoji["twitter"][4]
    assert path.name == known
    by_id = rec.recommend([known], k=5, exclude=[known])
    for new in (str(path), path, Image.open(path)):
        found = rec.recommend([new], k=5, exclude=[known])
        assert (found.ids == by_id.ids).all()
    with pytest.raises(UnknownNameError, match="'no-such.png' is not known"):
        rec.recommend(["no-such.png"])
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ItemError, match="not a picture that Pillow can read"):
        rec.recommend([str(tmp_path / "broken.png")])
    texts = tmp_path / "faq.txt"
    texts.write_text("where is my card?\nhow do I pay?\nI want my money back\nmy card was stolen\n")
    faq = es.Recommender(es.build(texts, tmp_path / "faq"))
    assert faq.recommend(["somebody took my card"], k=2).ids.tolist()[0] in ("1", "4")
    assert faq.recommend(["somebody took my card"], k=2).notes == [None]
    typo = faq.recommend_many([["1"], ["S0001", "2"]], k=2)
    assert typo.notes == [None, "'S0001' is no id, and was read as a text"]
    assert (
        faq.recommend(["S0001"], k=9).notes[0].startswith("'S0001' is no id, and was read as a text; 4 items are left")
    )
    with pytest.raises(UnknownNameError, match="'77' is not known"):
        faq.recommend(["77"])


def test_nothing_here_loads_torch(indexes, tmp_path):
    import subprocess

    code = (
        "import sys, embedsearch as es; rec = es.Recommender(es.open(sys.argv[1])); rec.recommend(['3', '4'], k=3);"
        "es.evaluate.recommender; assert 'torch' not in sys.modules and 'scipy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(indexes["cosine"].path)], check=True)
