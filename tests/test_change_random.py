"""Any order of adds, deletions, optimizes and refreshes: the index is what a dictionary would be."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import oracle
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import embedsearch as es

IDS = [f"id{n}" for n in range(12)]
POOL = (np.random.default_rng(0).normal(size=(40, 3)) @ np.random.default_rng(1).normal(size=(3, 6))).astype(np.float32)

items = st.dictionaries(st.sampled_from(IDS), st.tuples(st.integers(0, 39), st.integers(0, 3)), min_size=1, max_size=6)


class Life(RuleBasedStateMachine):
    """held: id -> (row of POOL, price), as the writer's index must be; seen: the same of a reader elsewhere."""

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp())

    def teardown(self):
        shutil.rmtree(self.root)

    @initialize(first=items, family=st.sampled_from(["flat", "hnsw"]), metric=st.sampled_from(["cosine", "l2", "ip"]))
    def build(self, first, family, metric):
        self.metric = metric
        self.held = dict(first)
        self.index = es.build(**self.arguments(first), out=self.root / "index", index=family, metric=metric)
        self.reader, self.seen = es.open(self.root / "index"), dict(first)

    @staticmethod
    def arguments(chosen):
        return {
            "source": POOL[[row for row, _ in chosen.values()]],
            "ids": list(chosen),
            "metadata": {"price": [price for _, price in chosen.values()]},
        }

    @rule(chosen=items)
    def add(self, chosen):
        report = self.index.add(**self.arguments(chosen))
        known = {i: self.held[i] for i in chosen if i in self.held}
        assert report.n_new == len(chosen) - len(known)
        assert report.n_known == sum(chosen[i] == before for i, before in known.items())
        assert report.n_replaced == sum(chosen[i][0] != before[0] for i, before in known.items())
        self.held.update(chosen)
        assert report.n_items == len(self.held)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def delete(self, data):
        gone = data.draw(st.lists(st.sampled_from(sorted(self.held)), unique=True, min_size=1))
        assert self.index.delete(gone).n_deleted == len(gone)
        for item_id in gone:
            del self.held[item_id]

    @rule(price=st.integers(0, 3))
    def delete_by_price(self, price):
        gone = [item_id for item_id, (_, own) in self.held.items() if own == price]
        assert self.index.delete(where=f"price = {price}").n_deleted == len(gone)
        for item_id in gone:
            del self.held[item_id]

    @rule()
    def optimize(self):
        report = self.index.optimize()
        assert report.n_items == len(self.held)
        drift = self.index.info()["drift"]
        assert drift["n_tail"] == drift["n_dead"] == 0
        if not report.up_to_date:
            # files of two generations are kept
            self.reader.refresh()
            self.seen = dict(self.held)

    @rule()
    def refresh(self):
        self.reader.refresh()
        self.seen = dict(self.held)

    @rule()
    def open_again(self):
        self.index = es.open(self.root / "index", verify=True)

    @invariant()
    def both_answer_as_a_dictionary_would(self):
        if not hasattr(self, "index"):
            return
        for index, held in ((self.index, self.held), (self.reader, self.seen)):
            self.check(index, held)

    def check(self, index, held):
        ids = list(held)
        assert sorted(index.ids) == sorted(ids)
        if not held:
            assert index.search(vector=POOL[0]) == []
            return
        xb = POOL[[row for row, _ in held.values()]]
        xq = POOL[::13] + np.float32(0.01)
        places = {item_id: n for n, item_id in enumerate(ids)}
        for k in (1, len(ids)):
            found, scores = index.search_vectors(xq, k=k)
            rows = np.vectorize(places.get, otypes=[np.int64])(found)
            oracle.assert_is_best(rows, scores, xq, xb, self.metric, k)
        cheap = [item_id for item_id, (_, price) in held.items() if price < 2]
        found, _ = index.search_vectors(xq, k=20, where="price < 2")
        assert {item_id for row in found for item_id in row} == set(cheap)
        for item_id in ids[:3]:
            assert index.item(item_id).metadata == {"price": held[item_id][1]}


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
