"""Judging recommendations: splits that leak nothing, and figures that can be computed by hand."""

import datetime
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import embedsearch as es
from embedsearch.errors import UnknownNameError, UsageError
from embedsearch.evaluate import Interactions, split_interactions

ITEMS = [f"i{n}" for n in range(12)]


class Fixed:
    """Recommends what it was told to, and keeps what it was asked with."""

    ids = ITEMS

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def recommend_many(self, user_items, k=10, **options):
        self.asked.append((list(user_items), options))
        rows = [[item for item in self.answer if item not in history][:k] for history in user_items]
        return np.array([row + [None] * (k - len(row)) for row in rows], object), None

    def item_vectors(self, ids):
        return np.eye(12, dtype=np.float32)[[ITEMS.index(item) for item in ids]]


def pairs(data):
    return set(zip(data.users, data.items, strict=True))


DATA = [
    ("ann", "i0", 1, 1),
    ("ann", "i1", 1, 2),
    ("ann", "i2", 1, 3),
    ("bob", "i0", 1, 4),
    ("bob", "i5", -1, 9),
    ("bob", "i3", 1, 8),
    ("cid", "i9", 1, 5),
]


def test_last_by_hand():
    rec = Fixed(["i2", "i7", "i3", "i1", "i8"])
    found = es.evaluate.recommender(rec, DATA, split="last", k=3)
    (histories, options), *more = rec.asked
    assert not more and options == {}
    assert histories == [{"i0": 1, "i1": 1}, {"i0": 1}]  # bob's dislike came later; cid has one like only
    assert (found.n_users, found.n_held, found.n_unknown) == (2, 2, 0)
    figures = found["recommender"]
    assert figures["recall"].mean == figures["hit_rate"].mean == 1
    assert figures["ndcg"].mean == pytest.approx((1 + 1 / 2) / 2)  # first, and third of i2 i7 i3
    assert figures["coverage"].mean == pytest.approx(3 / 12)
    assert figures["diversity"].mean == 1
    # of three users (one more on both sides) nobody knows i2, i7, i3
    assert figures["novelty"].mean == pytest.approx(np.log2(4))
    assert set(found.figures) == {"recommender", "popularity", "random"}
    # ann: i9, then i2 and i3, which nobody has; bob: i1, i9, i2
    assert found.per_user["popularity"]["recall"].tolist() == [1, 0]
    assert "2 users, 2 items held out (last), k = 3" in str(found)


def test_popularity_knows_only_what_is_not_held_out():
    """Everybody's last is the same item: counted with it popularity would be perfect."""
    data = [(f"u{n}", f"i{n % 5}", 1, 1) for n in range(40)] + [(f"u{n}", "i11", 1, 2) for n in range(40)]
    found = es.evaluate.recommender(Fixed(ITEMS[::-1]), data, k=1)
    assert found["popularity"]["recall"].mean == 0 and found["recommender"]["recall"].mean == 1
    assert found.difference("recommender", "popularity").low == pytest.approx(1)


@pytest.mark.parametrize("split", ["last", "random", "time"])
def test_a_split_is_a_partition_that_leaks_nothing(split):
    rng = np.random.default_rng(0)
    n = 600
    data = pd.DataFrame({
        "user": rng.integers(0, 40, n),
        "item": rng.integers(0, 80, n),
        "weight": rng.choice([-1.0, 1.0, 2.0], n),
        "time": rng.permutation(n),
    })  # fmt: skip
    everything = Interactions.of(data)
    known, out = split_interactions(data, split)
    assert not pairs(known) & pairs(out) and pairs(known) | pairs(out) <= pairs(everything)
    assert (out.weights > 0).all() and len(out)
    if split == "last":
        for user in set(out.users):
            before = out.times[out.users == user].min()
            gone = {pair for pair in pairs(everything.where(everything.times > before)) if pair[0] == user} - pairs(out)
            assert not gone & pairs(known)
            everything = everything.where(
                [pair not in gone for pair in zip(everything.users, everything.items, strict=True)]
            )
    if split == "time":
        assert known.times.max() < out.times.min()
        assert len(known) == pytest.approx(0.8 * len(everything), rel=0.02)
    else:
        assert pairs(known) | pairs(out) == pairs(everything)
    for user in set(out.users) if split != "time" else ():
        likes = known.where((known.users == user) & (known.weights > 0))
        held = out.where(out.users == user)
        assert len(likes) >= 1
        if split == "last":
            assert len(held) == 1 and held.times[0] > likes.times.max()
        else:
            assert len(held) == max(int(0.2 * (len(held) + len(likes))), 1)
    again = split_interactions(data, split)
    assert pairs(again[1]) == pairs(out)
    if split == "random":
        assert pairs(split_interactions(data, split, seed=1)[1]) != pairs(out)
        assert len(split_interactions(data, split, held=3)[1]) > len(set(out.users))


def test_the_later_of_two_counts():
    data = Interactions.of([("a", "x", 5, 2), ("a", "x", -1, 1), ("a", "y", 1, 0)])
    assert len(data) == 2 and dict(zip(data.items, data.weights, strict=True)) == {"x": 5, "y": 1}


@pytest.mark.parametrize("kind", ["frame", "arrow", "mapping", "tuples", "dates"])
def test_what_interactions_may_be(kind):
    users, items, weights, times = zip(*DATA, strict=True)
    columns = {"user": users, "item": items, "weight": weights, "time": times}
    data = {
        "frame": lambda: pd.DataFrame(columns),
        "arrow": lambda: pa.table(columns),
        "mapping": lambda: columns,
        "tuples": lambda: DATA,
        "dates": lambda: {**columns, "time": [datetime.datetime(2024, 1, day) for day in times]},
    }[kind]()
    known, out = split_interactions(data)
    assert pairs(out) == {("ann", "i2"), ("bob", "i3")} and len(known) == 4


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Of 200 samples of a known rate, about 95 % have it in their interval."""
    from embedsearch.evaluate import bootstrapped

    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        figure = bootstrapped(rng.binomial(1, 0.3, 150).astype(float))
        inside += figure.low <= 0.3 <= figure.high
    assert 180 <= inside <= 199


def test_ndcg_is_that_of_the_other_measure(rng):
    from embedsearch.evaluate import ndcg_at_k

    data = [(f"u{u}", item, 1) for u in range(20) for item in rng.choice(ITEMS, 6, replace=False)]
    rec = Fixed(ITEMS)
    found = es.evaluate.recommender(rec, data, split="random", held=3, k=4)
    known, out = split_interactions(data, "random", held=3)
    truth = []
    for user in sorted(set(out.users)):
        wanted = {item: 1.0 for owner, item in pairs(out) if owner == user}
        have = {item for owner, item in pairs(known) if owner == user}
        truth.append(ndcg_at_k([item for item in ITEMS if item not in have][:4], wanted, 4))
    np.testing.assert_allclose(found.per_user["recommender"]["ndcg"], truth)


def test_several_at_once_and_options(clusters, tmp_path):
    rec = es.Recommender(es.build(clusters[:12], tmp_path / "x", ids=ITEMS))
    found = es.evaluate.recommender({"ours": rec, "fixed": Fixed(ITEMS)}, DATA, k=2, strategy="centroid")
    assert list(found.figures) == ["ours", "fixed", "popularity", "random"]
    assert 0 <= found["ours"]["diversity"].mean <= 2


def test_items_that_are_not_indexed():
    data = [
        *DATA,
        ("dan", "i0", 1, 1),
        ("dan", "i4", 1, 2),
        ("dan", "gone", 1, 3),
        ("eve", "gone", 1, 1),
        ("eve", "i1", 1, 2),
    ]
    found = es.evaluate.recommender(Fixed(ITEMS), data)
    assert found.n_users == 3 and found.n_unknown == 1  # nothing is known of eve
    assert found.per_user["recommender"]["recall"].tolist()[-1] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "first"}, "split 'first' is not known"),
        ({"held": 0}, "held is 0"),
        ({"held": 1.5}, "held is 1.5"),
        ({"split": "time", "held": 2}, "held is 2"),
        ({"interactions": [("a", "b")]}, "needs the column time"),
        ({"interactions": {"user": ["a"]}}, "no column 'item'"),
        (
            {"interactions": {"user": ["a"], "item": ["b"], "weight": [float("nan")]}},
            "weight of interactions holds NaN",
        ),
        ({"interactions": {"user": ["a"], "item": ["b", "c"]}}, "not of one length"),
        ({"interactions": [("a", "b"), ("a", "b", 1)]}, "all of one length"),
        ({"interactions": [], "split": "random"}, "nobody has both"),
        ({"rec": {"random": Fixed(ITEMS)}}, "always beside it"),
        ({"rec": {}}, "no recommender"),
    ],
)
def test_what_cannot_be_meant(change, message):
    call = {"rec": Fixed(ITEMS), "interactions": DATA, **change}
    with pytest.raises(UsageError, match=message):
        es.evaluate.recommender(**call)


def test_names_that_were_not_evaluated():
    found = es.evaluate.recommender(Fixed(ITEMS), DATA)
    for ask in (lambda: found.difference("popularity", "chance"), lambda: found["chance"]):
        with pytest.raises(UnknownNameError, match="recommender 'chance' is not known; valid: popularity, random, rec"):
            ask()
    with pytest.raises(UnknownNameError, match="measure 'novelty' is not known"):
        found.difference("popularity", "random", "novelty")


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT])
@pytest.mark.parametrize("name", ["user", "item"])
def test_nobody_is_called_none(missing, name):
    data = {"user": ["a", "b"], "item": ["x", "y"]}
    data[name] = [data[name][0], missing]
    for table in (data, pd.DataFrame(data), list(zip(data["user"], data["item"], strict=True))):
        with pytest.raises(UsageError, match=f"{name} of interactions is missing, first at 1"):
            Interactions.of(table)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (["i7", "i7"], "twice to one user"),
        (["i7", "none"], "recommends 'none', which is not among its ids"),
        (["i7", "i0"], "'i0' to somebody who knows it"),
        (["i7", "i8", "i9"], "2 users x at most 2 ids"),
    ],
)
def test_answers_that_would_count_as_more_than_they_are(answer, message):
    class Careless(Fixed):
        def recommend_many(self, user_items, k=10):
            return np.array([answer] * len(user_items), object), None

    with pytest.raises(UsageError, match=message):
        es.evaluate.recommender(Careless([]), DATA, k=2)


def test_it_is_reached_from_the_package_without_torch():
    code = "import sys, embedsearch as es; es.evaluate.recommender; assert not {'torch', 'faiss'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
