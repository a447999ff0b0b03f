"""The pure functions of recommending, against plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedsearch.errors import UsageError
from embedsearch.recommend.exhaustive import HeldVectors
from embedsearch.recommend.fusion import fuse
from embedsearch.recommend.histories import Histories
from embedsearch.recommend.profiles import centroids, n_tastes, tastes
from embedsearch.recommend.strategies import STRATEGIES, chosen
from embedsearch.recommend.tally import Pool, best_of_votes
from embedsearch.recommend.variety import relevance, select
from embedsearch.recommend.votes import reciprocal_ranks, seats
from embedsearch.recommend.weights import interaction_weights
from embedsearch.types import Metric


@given(st.integers(0, 10_000), st.sampled_from(["sum", "max"]), st.integers(1, 700), st.integers(1, 9))
def test_votes_are_counted_as_in_a_loop(seed, together, n_users, depth):
    rng = np.random.default_rng(seed)
    n_rows, n = 40, 6 * n_users
    users = np.sort(rng.integers(0, n_users, n))
    rows, values = rng.integers(-1, n_rows, n), rng.normal(size=n)
    known = np.unique(rng.integers(0, n_users * n_rows, n_users))
    found, scores = best_of_votes(
        users, rows, values, n_users=n_users, n_rows=n_rows, known=known, depth=depth, together=together
    )
    out = set(known.tolist())
    for user in rng.choice(n_users, min(n_users, 20), replace=False):
        sums = {}
        for row, value in zip(rows[users == user], values[users == user], strict=True):
            if row >= 0 and user * n_rows + row not in out:
                before = sums.get(row)
                sums[row] = value if before is None else before + value if together == "sum" else max(before, value)
        best = sorted(sums, key=lambda row: (-np.float32(sums[row]), row))[:depth]
        assert found[user].tolist() == best + [-1] * (depth - len(best))
        np.testing.assert_allclose(scores[user, : len(best)], [sums[row] for row in best], atol=1e-6)
        assert np.isnan(scores[user, len(best) :]).all()


def test_what_is_level_in_float32_is_parted_by_likeness():
    """Two favourites of equal rank lists whose likenesses differ by .01, and a sum too large for float32 to see it."""
    alike = np.full((1, 6), 0.5)
    alike[0, 4], alike[0, 5] = 0.51, 0.49
    votes = np.concatenate([[2.0] * 6 + 1e-6 * alike[0] / (1 + alike[0])])
    assert len(set(votes.astype(np.float32))) == 1
    for depth in (2, 6):
        found, _ = best_of_votes(
            np.zeros(6, int),
            np.arange(6),
            votes,
            n_users=1,
            n_rows=6,
            known=np.empty(0, int),
            depth=depth,
            together="sum",
        )
        assert found[0].tolist() == [4, 0, 1, 2, 3, 5][:depth]
    lists = reciprocal_ranks(np.array([[0.80, 0.7], [0.81, 0.7]]), np.ones(2))
    found, _ = best_of_votes(
        np.zeros(4, int),
        np.array([3, 1, 2, 1]),
        lists.ravel(),
        n_users=1,
        n_rows=5,
        known=np.empty(0, int),
        depth=3,
        together="sum",
    )
    assert found[0].tolist() == [1, 2, 3]


def test_votes_where_keys_are_too_long_to_be_packed(rng):
    """Row numbers of 2^40 leave no room for places."""
    n_rows = 2**40
    users, rows = np.repeat(np.arange(300), 50), rng.integers(0, 30, 15_000) * (2**35)
    values = rng.normal(size=15_000)
    wide = best_of_votes(users, rows, values, n_users=300, n_rows=n_rows, known=rows[:1], depth=5, together="sum")
    small = best_of_votes(
        users, rows // 2**35, values, n_users=300, n_rows=32, known=rows[:1] // 2**35, depth=5, together="sum"
    )
    assert (wide[0] // 2**35 == small[0]).all()
    np.testing.assert_allclose(wide[1], small[1], atol=1e-6)


@pytest.mark.parametrize("spread", [0, 1, 3])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.02])
@pytest.mark.parametrize("k", [1, 60, 300])
def test_products_are_brute_force(rng, share, k, spread):
    """Norms that are level, and norms so different that most rows need not be looked at."""
    x = (rng.normal(size=(9001, 12)) * rng.lognormal(0, spread, (9001, 1))).astype(np.float32)
    x[:3] = 0
    q = rng.normal(size=(300, 12)).astype(np.float32)
    q[7] = 0
    allowed = None if share == 1 else rng.random(9001) < share
    k = min(k, 9001 if allowed is None else int(allowed.sum()))
    rows, scores = HeldVectors(x).best(q, k, allowed)
    truth = q.astype(np.float64) @ x.T.astype(np.float64)
    if allowed is not None:
        truth[:, ~allowed] = -np.inf
        assert allowed[rows].all()
    near = {"rtol": 1e-5, "atol": 1e-6 * float(np.abs(truth[np.isfinite(truth)]).max())}
    np.testing.assert_allclose(scores, -np.sort(-truth, axis=1)[:, :k], **near)
    np.testing.assert_allclose(np.take_along_axis(truth, rows, 1), scores, **near)
    np.testing.assert_array_equal(HeldVectors(x).at(rows[:, 0]), x[rows[:, 0]])
    assert all(len(set(row)) == k for row in rows.tolist())


def test_products_among_equal_rows():
    """Ties fill every place, and only once each."""
    x = np.ones((5000, 4), np.float32)
    rows, scores = HeldVectors(x).best(np.ones((3, 4), np.float32), 7)
    assert (scores == 4).all() and all(len(set(row)) == 7 for row in rows.tolist())


def test_histories_are_rows_of_a_sparse_matrix(rng):
    from scipy.sparse import random as random_matrix

    matrix = random_matrix(30, 50, 0.2, "csr", random_state=1, data_rvs=lambda size: rng.normal(size=size))
    histories = Histories(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data)
    x = rng.normal(size=(50, 8)).astype(np.float32)
    positive = np.maximum(matrix.toarray(), 0)
    means = positive @ x / np.maximum(positive.sum(axis=1, keepdims=True), 1e-300)
    np.testing.assert_allclose(centroids(histories.liked, x), means, atol=1e-5)
    users = np.array([7, 3, 29])
    some = histories.of_users(users)
    dense = np.zeros((3, 50))
    dense[some.users, some.items] = some.weights
    np.testing.assert_array_equal(dense, matrix[users].toarray())
    assert (histories.disliked.weights > 0).all()
    assert len(histories.liked.items) + len(histories.disliked.items) == matrix.nnz


def test_tastes_are_the_groups_there_are(rng):
    """Four groups far apart, in histories of several lengths; sizes must not mix."""
    middles = 20 * np.eye(4, 16)
    lists, x, truth = [], [], []
    for user, length in enumerate([32, 40, 3, 33]):
        group = np.arange(length) % 4
        lists.append((np.arange(length) + sum(map(len, truth)), np.ones(length)))
        x.append(middles[group] + rng.normal(size=(length, 16)))
        truth.append(group + 10 * user)
    histories = Histories.of(lists)
    found = tastes(histories, np.concatenate(x).astype(np.float32), Metric.COSINE)
    assert n_tastes(np.array([1, 2, 8, 32, 1000])).tolist() == [1, 1, 2, 4, 5]
    for user in (0, 1, 3):
        mine = slice(histories.starts[user], histories.starts[user + 1])
        pairs = {(int(a), int(b)) for a, b in zip(found[mine], truth[user], strict=True)}
        assert len(pairs) == 4 == len({taste for taste, _ in pairs})
    assert (found[histories.users == 2] == 0).all()


@pytest.mark.parametrize("metric", [Metric.L2, Metric.COSINE])
def test_tastes_have_settled(metric):
    """Points without groups, where k-means needs several rounds: as a plain loop, run until nothing moves."""
    rng = np.random.default_rng(5)
    rounds = []
    for _ in range(8):
        x = rng.normal(size=(32, 6))
        if metric is Metric.COSINE:
            x /= np.linalg.norm(x, axis=1, keepdims=True)
        weights = rng.uniform(0.2, 1, 32)

        def costs(centres, x=x):
            if metric is Metric.COSINE:
                return -x @ (centres / np.linalg.norm(centres, axis=1, keepdims=True)).T
            return ((x[:, None] - centres) ** 2).sum(axis=2)

        chosen = [int(costs(np.average(x, axis=0, weights=weights)[None])[:, 0].argmin())]
        while len(chosen) < 4:
            chosen.append(int(costs(x[chosen]).min(axis=1).argmax()))
        centres, groups = x[chosen], [np.full(32, -1)]
        while len(groups) < 2 or (groups[-1] != groups[-2]).any():
            groups.append(costs(centres).argmin(axis=1))
            of = [groups[-1] == c for c in range(4)]
            centres = np.stack([np.average(x[mine], axis=0, weights=weights[mine]) for mine in of])
        rounds.append(len(groups) - 2)
        found = tastes(Histories.of([(np.arange(32), weights)]), x.astype(np.float32), metric)
        assert found.tolist() == groups[-1].tolist()
    assert max(rounds) >= 3


def test_seats_follow_the_weights():
    """Weights 6 and 2: of 8 slots 6 and 2, by Sainte-Laguë's own table."""
    values = seats(np.zeros((2, 8)), np.array([6.0, 2.0]), np.ones((2, 8), bool))
    order = np.argsort(-values.ravel(), kind="stable")[:8] // 8
    # quotients 6 2 2 1.2 .86 .67 .55 .46 and 2 .67 .4: what is level comes by list
    assert order.tolist() == [0, 0, 1, 0, 0, 0, 1, 0]
    closed = seats(np.zeros((1, 3)), np.array([1.0]), np.array([[False, True, True]]))
    np.testing.assert_allclose(closed[0, 1:], [1, 1 / 3])


def mmr(scores, vectors, k, diversity, kinds=None, most=()):
    """One user, as the paper says it."""
    worth = relevance(scores[None])[0]
    taken = []
    while len(taken) < k:
        best, which = -np.inf, None
        for at in range(len(scores)):
            full = kinds is not None and any(
                kinds[at, f] >= 0 and sum(kinds[i, f] == kinds[at, f] for i in taken) >= most[f]
                for f in range(len(most))
            )
            if at in taken or not np.isfinite(scores[at]) or full:
                continue
            near = max((float(vectors[at] @ vectors[i]) for i in taken), default=0.0)
            value = (1 - diversity) * worth[at] - (diversity * near if taken else 0)
            if value > best + 1e-12:
                best, which = value, at
        if which is None:
            break
        taken.append(which)
    return taken


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 0.7, 1.0]), st.booleans())
def test_variety_is_maximal_marginal_relevance(seed, diversity, capped):
    rng = np.random.default_rng(seed)
    scores = -np.sort(-rng.normal(size=(3, 25)).astype(np.float32), axis=1)
    scores[1, 9:] = np.nan
    vectors = rng.normal(size=(3, 25, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    kinds, most = (rng.integers(-1, 3, (3, 25, 2)), np.array([2, 3])) if capped else (None, None)
    found = select(scores, 8, diversity=diversity, vectors=vectors, kinds=kinds, most=most)
    for user in range(3):
        mine = None if kinds is None else kinds[user]
        expected = mmr(scores[user], vectors[user], 8, diversity, mine, [] if most is None else most)
        assert found[user][found[user] >= 0].tolist() == expected
    if not diversity and not capped:
        assert (found[0] == np.arange(8)).all()


def test_fusion_by_hand():
    first = Pool(np.array([[4, 7, 1]]), np.array([[9.0, 8.0, 5.0]], np.float32), np.ones(1, bool))
    second = Pool(np.array([[7, 2, -1]]), np.array([[0.5, 0.1, np.nan]], np.float32), np.ones(1, bool))
    rows, scores = fuse([first, second], [3, 1], 10, how="rank", depth=5)
    truth = {7: 3 / 62 + 1 / 61, 4: 3 / 61, 1: 3 / 63, 2: 1 / 62}
    assert rows[0].tolist() == [*sorted(truth, key=lambda item: -truth[item]), -1]
    np.testing.assert_allclose(scores[0, :4], [truth[item] / 4 for item in rows[0, :4]], rtol=1e-5)
    rows, scores = fuse([first, second], [3, 1], 10, how="score", depth=3)
    assert rows[0].tolist() == [7, 4, 1]
    np.testing.assert_allclose(scores[0], [(3 * 0.75 + 1) / 4, 0.75, 0], rtol=1e-5)


def test_auto_goes_by_length_and_metric():
    lengths = np.array([1, 2, 3, 50, 500])
    named = [STRATEGIES[place] for place in chosen("auto", Metric.COSINE, lengths)]
    assert named == ["centroid", "centroid", "max", "max", "max"]
    assert {STRATEGIES[place] for place in chosen("auto", Metric.IP, lengths)} == {"centroid"}


def test_weights_of_ratings_and_ages():
    np.testing.assert_allclose(interaction_weights([5, 3, 1], neutral=3), [2, 0, -2])
    np.testing.assert_allclose(interaction_weights(ages=[0, 30, 60], half_life=30), [1, 0.5, 0.25])
    np.testing.assert_allclose(interaction_weights([4, 4], ages=[0, 10], half_life=10), [4, 2])
    for wrong in (
        {},
        {"ratings": [np.nan]},
        {"ratings": [1], "ages": [1]},
        {"ages": [-1], "half_life": 2},
        {"ages": [1], "half_life": 0},
        {"ratings": [1, 2], "ages": [1], "half_life": 1},
        {"ratings": ["much"]},
    ):
        with pytest.raises(UsageError):
            interaction_weights(**wrong)
