"""What a family makes of the rows that may be answers: once for a mask that cannot change, anew for one that can."""

import numpy as np
import pytest
from test_index import FAMILIES, make

from embedsearch.index.allowed import MadeOnce, Selected
from embedsearch.index.live import FEW_DEAD, LiveIndex
from embedsearch.types import Metric


def test_only_a_mask_that_nobody_can_write_to_is_remembered():
    made = []
    once = MadeOnce(lambda mask: made.append(int(mask.sum())) or made[-1])
    mask = np.zeros(5, np.bool_)
    assert once.of(mask) == 0
    mask[2] = True
    assert once.of(mask) == 1, "it has changed"
    mask.setflags(write=False)
    assert once.of(mask) == once.of(mask) == 1 and len(made) == 3
    other = np.ones(5, np.bool_)
    other.setflags(write=False)
    assert once.of(other) == 5 and once.of(mask) == 1


def test_a_selector_holds_what_it_points_to():
    chosen = Selected.of(np.arange(100) % 3 == 0)
    assert [row for row in range(100) if chosen.selector.is_member(row)] == list(range(0, 100, 3))
    assert chosen.n == 34 and chosen.share == 0.34


@pytest.mark.parametrize("family", FAMILIES)
def test_searches_after_many_deletions_do_not_look_at_all_rows_again(family, clusters, monkeypatch):
    x = clusters[:400]
    main, choice = make(family, Metric.COSINE, x)
    now = np.arange(FEW_DEAD + 1, 400, dtype=np.int64)
    index = LiveIndex.compose(main, np.arange(400, dtype=np.int64), now, lambda rows: x[now[rows]])
    first = index.search(x[300:303], 5, choice.search)
    monkeypatch.setattr(np, "packbits", None)
    if family == "ivf":
        monkeypatch.setattr("embedsearch.index.ivf.lists.sizes_of", None)
    again = index.search(x[300:303], 5, choice.search)
    np.testing.assert_array_equal(first[1], again[1])
