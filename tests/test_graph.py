"""The graph family: compiled loops against numpy, codes against the vectors they stand for."""

import subprocess
import sys

import numpy as np
import oracle
import pytest
from numba import njit

from embedsearch.compiled import compiling
from embedsearch.errors import DamagedIndexError
from embedsearch.index.graph import asking, plain, reaching, walk
from embedsearch.index.graph.codes import LANES, Codec
from embedsearch.index.graph.index import GraphIndex
from embedsearch.index.growth import K_GROWTH
from embedsearch.types import Metric
from embedsearch.vectors import l2_normalize


def made(x, metric=Metric.COSINE, **build):
    index = GraphIndex.create(x.shape[1], metric, {"n": len(x), **build})
    index.train(x)
    for start in range(0, len(x), 700):
        index.add(x[start : start + 700])
    index.complete(lambda n: None)
    return index


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(2)
    return l2_normalize((rng.normal(size=(3000, 10)) @ rng.normal(size=(10, 70))).astype(np.float32))


@pytest.fixture(scope="module")
def index(x):
    return made(x)


@pytest.mark.parametrize("size", [10, 40, 300])
def test_the_compiled_walk_ends_at_the_nodes_that_the_plain_one_finds(index, x, size, rng):
    xq = l2_normalize(x[:60] + 0.1 * rng.normal(size=(60, 70)).astype(np.float32))
    asked = asking._Asked(index._nodes, xq, 10)
    asked.walk(size, size, asking._NONE)
    for q in range(60):
        nodes = plain.walk_query(asked.graph, asked.queries.heads[q], asked.queries.entries[q], size)
        D, found = plain.rank_query(asked.graph, asked.queries, q, nodes, 10)
        np.testing.assert_array_equal(found, asked.found[q])
        np.testing.assert_allclose(D, asked.D[q], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("n", [1, 2, 5, 90])
def test_queries_are_prepared_as_numpy_does_it(metric, n, x, rng):
    index = made(x * rng.uniform(0.5, 2, (len(x), 1)).astype(np.float32), metric)
    nodes, xq = index._nodes, rng.normal(size=(n, 70)).astype(np.float32)
    compiled, numpys = asking._Asked(nodes, xq, 3), asking._Asked(nodes, xq, 3, plain_walk=True)
    n_axes = len(nodes.codec.axes)
    assert not compiled.queries.along[:, n_axes:].any()
    np.testing.assert_allclose(compiled.queries.along[:, :n_axes], numpys.queries.along, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(compiled.queries[2:4], numpys.queries[2:4], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    apart = np.abs(compiled.queries.heads.astype(int) - numpys.queries.heads)
    assert apart.max() <= 1 and (apart == 0).mean() > 0.99  # on the edge of two bytes sums in another order may differ
    assert (np.sort(compiled.queries.entries, axis=1) == np.sort(numpys.queries.entries, axis=1)).mean() > 0.98


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("k", [1, 10, 700])
def test_a_query_alone_is_answered_as_among_others(metric, k, x, rng):
    index = made(x, metric)
    xq = l2_normalize(x[:30] + 0.1 * rng.normal(size=(30, 70)).astype(np.float32))
    scores, rows = index.search(xq, k, {"ef_search": 50})
    for q in range(30):
        D, found = index.search(xq[q : q + 1], k, {"ef_search": 50})
        np.testing.assert_allclose(D[0], scores[q], rtol=1e-5, atol=1e-6)
        # what prepares many at a time may sum in another order, and a code on the edge of two bytes fall to the other
        assert (found[0] == rows[q]).mean() > 0.98


def test_a_process_that_asks_little_never_loads_the_compiler(index, x, tmp_path):
    index.save(tmp_path / "x.graph")
    np.save(tmp_path / "q.npy", x[:3])
    code = (
        "import sys, numpy as np, pathlib\n"
        "from embedsearch.index.graph.index import GraphIndex\n"
        "from embedsearch.types import Metric\n"
        f"index = GraphIndex.load(pathlib.Path({str(tmp_path / 'x.graph')!r}), Metric.COSINE)\n"
        f"q = np.load({str(tmp_path / 'q.npy')!r})\n"
        "print(index.search(q, 5, {'ef_search': 60})[1].tolist(), 'numba' in sys.modules)\n"
        "print(index.search(np.repeat(q, 4, 0), 5, {'ef_search': 60})[1][::4].tolist(), 'numba' in sys.modules)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    expected = index.search(x[:3], 5, {"ef_search": 60})[1].tolist()
    assert told == [f"{expected} False", f"{expected} True"]


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("n_bytes", [1, 2])
def test_scores_are_those_of_the_vectors_to_what_the_codes_leave_out(metric, n_bytes, x, rng):
    rows = x if metric is Metric.COSINE else x * rng.uniform(0.5, 3, (len(x), 1)).astype(np.float32)
    index = made(rows, metric, residual_bytes=n_bytes)
    scores, found = index.search(rows[:50], 10, {"ef_search": 100})
    truth = np.take_along_axis(oracle.scores_of(rows[:50], rows, metric), found, axis=1)
    scale = 1.0 if metric is Metric.COSINE else float(np.abs(truth).max())
    assert np.abs(scores - truth).max() < (2e-3 if n_bytes == 1 else 2e-5) * scale


def test_decoded_vectors_are_the_vectors(x):
    codec = Codec.fit(x, Metric.L2)
    heads, residuals, scales, norms = codec.encode(x, 2)
    decoded = codec.mean + (heads[:, : len(codec.axes)].astype(np.float64) - 128) * codec.step @ codec.axes
    decoded += residuals * scales[:, None].astype(np.float64)
    np.testing.assert_allclose(decoded, x, atol=2e-5)
    np.testing.assert_allclose(norms, ((x - codec.mean) ** 2).sum(axis=1), rtol=1e-3)
    np.testing.assert_allclose(codec.axes @ codec.axes.T, np.eye(len(codec.axes)), atol=1e-4)
    assert codec.width % LANES == 0


def test_a_vector_far_off_the_others_is_found_by_itself(x):
    rows = np.concatenate([x, x[:1] * 50])
    index = made(rows, Metric.L2)
    scores, found = index.search(rows[-1:], 1, {"ef_search": 50})
    assert found[0, 0] == len(x) and scores[0, 0] < 1


@pytest.mark.parametrize("n", [1, 2, 3, 9, 40])
@pytest.mark.parametrize("metric", list(Metric))
def test_few_vectors(n, metric, rng):
    x = rng.normal(size=(n, 6)).astype(np.float32)
    _, rows = made(x, metric).search(x, n, {"ef_search": 10})
    assert all(sorted(row) == list(range(n)) for row in rows.tolist())


def test_equal_vectors_and_zeros(rng):
    x = np.repeat(rng.normal(size=(4, 16)).astype(np.float32), 200, axis=0)
    x[:30] = 0
    scores, rows = made(x, Metric.L2).search(x[[0, 100, 700]], 50, {"ef_search": 60})
    assert (scores[:, :30] < 1e-4).all() and (scores[1:] < 1e-4).all()
    assert set(rows[0, :30].tolist()) == set(range(30))
    assert all(len(set(row)) == 50 for row in rows.tolist())


def test_every_node_can_be_reached(index):
    nodes = index._nodes
    assert reaching.reached(nodes.graph.links, nodes.graph.degree, np.unique(nodes.doors), len(nodes)).all()
    links = nodes.links
    for node in range(0, len(nodes), 97):
        linked = links[node][links[node] >= 0]
        assert len(set(linked.tolist())) == len(linked) and node not in linked
        assert (links[node][len(linked) :] == -1).all()


@pytest.mark.parametrize("degree", [4, 48])
def test_every_node_can_be_reached_when_those_held_out_are_there(degree, x, rng):
    """Also in clusters that are copies of a few vectors, which link to nothing but themselves."""
    rows = np.concatenate([x[:1500], np.repeat(x[1500:1510], 60, axis=0)])
    index = GraphIndex.create(70, Metric.COSINE, {"n": len(rows), "degree": degree})
    index.train(rows)
    apart = rng.choice(len(rows), 400, replace=False)
    index.hold_out(apart)
    index.add(rows)
    index.complete(lambda n: None)
    _, found = index.search(rows[:300], 10, {"ef_search": 60})
    assert not set(found.ravel().tolist()) & set(apart.tolist())
    index.admit(lambda n: None)
    nodes = index._nodes
    assert reaching.reached(nodes.graph.links, nodes.graph.degree, np.unique(nodes.doors), len(nodes)).all()


def test_axes_are_fitted_to_all_of_a_sample_that_is_sorted(rng):
    """Of wide vectors a part of the sample is looked at: not its beginning, which may all show the same."""
    x = rng.normal(size=(6000, 2500)).astype(np.float32) * 0.01
    x[:3000, 0] += rng.normal(size=3000) * 5
    x[3000:, 1] += rng.normal(size=3000) * 5
    axes = Codec.fit(x, Metric.L2).axes
    assert np.linalg.norm(axes[:, 0]) > 0.99 and np.linalg.norm(axes[:, 1]) > 0.99


def test_threads_do_not_change_the_graph(index, x):
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        alone = made(x)
    finally:
        faiss.omp_set_num_threads(before)
    np.testing.assert_array_equal(alone._nodes.links, index._nodes.links)


def test_the_key_of_a_beam_orders_by_distance_then_node():
    beam = np.zeros(3, np.uint64)
    keys = [np.uint64(d << 32 | n << 1) for d, n in [(5, 1), (5, 0), (2, 9), (9, 9), (5, 1)]]
    count = 0
    for key in keys:
        if walk.insert_key(beam, count, key) >= 0:
            count = min(count + 1, 3)
    assert beam.tolist() == [2 << 32 | 18, 5 << 32, 5 << 32 | 2]


def test_a_file_that_is_cut_off_is_damaged(index, tmp_path):
    index.save(tmp_path / "x.graph")
    whole = (tmp_path / "x.graph").read_bytes()
    (tmp_path / "x.graph").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedIndexError, match="cannot be read"):
        GraphIndex.load(tmp_path / "x.graph", Metric.COSINE)


def test_where_nothing_can_be_kept_each_process_compiles_anew(monkeypatch):
    def without_a_place(**options):
        if options.pop("cache", False):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(compiling, "njit", without_a_place)
    assert compiling.compiled(lambda x: x + 1)(2) == 3


def test_what_is_held_out_is_no_answer_however_hard_one_looks(x):
    """Not even where every node is scored, as for many answers."""
    index = GraphIndex.create(70, Metric.IP, {"n": len(x)})
    index.train(x)
    held = np.arange(0, len(x), 5)
    index.hold_out(held)
    index.add(x)
    index.complete(lambda n: None)
    for k, growth in ((10, 50), (100, 50), (100, 1000), (2000, 50)):
        _, rows = index.search(x[:20], k, {"ef_search": 640, K_GROWTH: growth})
        assert rows.min() >= 0 and not np.isin(rows, held).any()
    index.admit(lambda n: None)
    _, rows = index.search(x[:20], 100, {"ef_search": 640, K_GROWTH: 1000})
    assert np.isin(rows, held).any() and oracle.recall_of(rows, x[:20], x, "ip") > 0.99
