"""The ivf family: codes in memory, vectors on disk, and every row that is asked for."""

import gc
import math
import shutil
from itertools import pairwise

import numpy as np
import oracle
import pytest
from oracle import recall_of

from embedsearch.errors import DamagedIndexError, UsageError
from embedsearch.index.ivf import lists, vectors_file
from embedsearch.index.ivf.efforts import ROW_COST, efforts, plan_search
from embedsearch.index.ivf.index import IVFIndex
from embedsearch.index.ivf.scaling import Scaling
from embedsearch.types import Metric
from embedsearch.vectors import l2_normalize

METRICS = list(Metric)


@pytest.fixture(scope="module")
def spread():
    """6000 x 48 of overlapping clusters."""
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((60, 48)) * 1.5
    return (centres[rng.integers(0, 60, 6000)] + rng.standard_normal((6000, 48))).astype(np.float32)


def make(metric, xb, **build):
    index = IVFIndex.create(xb.shape[1], metric, build or IVFIndex.plan(*xb.shape, 0.95))
    index.train(xb)
    for start in range(0, len(xb), 1000):
        index.add(xb[start : start + 1000])
    index.complete(lambda n: None)
    return index


def prepared(metric, x):
    return l2_normalize(x) if metric is Metric.COSINE else x


@pytest.mark.parametrize("metric", METRICS)
def test_effort_buys_recall_and_scores_are_those_of_the_vectors(metric, spread):
    xb = prepared(metric, spread[200:])
    xq = prepared(metric, spread[:200])
    index = make(metric, xb)
    ladder = index.efforts(10)
    found = [index.search(xq, 10, effort) for effort in (ladder[0], ladder[len(ladder) // 2], ladder[-1])]
    recalls = [recall_of(rows, xq, xb, metric) for _, rows in found]
    assert recalls[0] < recalls[1] <= recalls[2] and recalls[2] >= 0.99
    scores, rows = found[-1]
    truth = np.take_along_axis(oracle.scores_of(xq, xb, metric), rows, axis=1)
    lengths = np.linalg.norm(xq, axis=1).max() * np.linalg.norm(xb, axis=1).max()
    np.testing.assert_allclose(scores, truth, atol=0.001 * lengths)
    assert (np.diff(scores if metric is Metric.L2 else -scores, axis=1) >= 0).all()


@pytest.mark.parametrize("factor", [1e-25, 1e-4, 1.0, 1e4, 1e15])
@pytest.mark.parametrize("metric", [Metric.IP, Metric.L2])
def test_vectors_of_any_size_fit_into_16_bits(metric, factor, spread):
    xb = spread * np.float32(factor) + np.float32(40 * factor if metric is Metric.L2 else 0)
    index = make(metric, xb)
    scores, rows = index.search(xb[:50], 5, index.efforts(5)[-1])
    assert np.isfinite(scores).all()
    assert recall_of(rows, xb[:50], xb, metric) >= 0.98
    if metric is Metric.L2:
        assert (rows[:, 0] == np.arange(50)).all()


@pytest.mark.parametrize(("metric", "factor"), [(Metric.IP, 2.0**20), (Metric.L2, 8.0)])
def test_a_query_may_be_longer_than_any_row(metric, factor, spread):
    xb, xq = spread[50:] * np.float32(1e-4), spread[:50] * np.float32(1e-4 * factor)
    index = make(metric, xb)
    scores, rows = index.search(xq, 10, index.efforts(10)[-1])
    assert recall_of(rows, xq, xb, metric) >= 0.98 and np.isfinite(scores).all()
    if metric is Metric.IP:
        _, same = index.search(xq / np.float32(factor), 10, index.efforts(10)[-1])
        assert (same == rows).all()


def test_a_row_that_float16_cannot_hold_beside_the_others_is_refused(spread):
    index = make(Metric.IP, spread)
    with pytest.raises(UsageError, match=r"a value .* times as large as the largest of the sample.*--index graph"):
        index.add(spread[:5] * np.float32(1e6))


def test_scaling_rounds_nothing(spread):
    scaling = Scaling.fit(spread, Metric.IP)
    assert np.log2(scaling.scale) % 1 == 0
    np.testing.assert_array_equal(scaling.apply(spread) / np.float32(scaling.scale), spread)
    assert np.isfinite(scaling.apply(spread).astype(np.float16)).all()
    assert Scaling.fit(np.zeros((3, 4), np.float32), Metric.L2).scale == 1.0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9])
def test_a_filter_leaves_no_query_short_and_costs_no_recall(share, metric, spread, tmp_path):
    xb, xq = prepared(metric, spread[100:]), prepared(metric, spread[:100])
    index = make(metric, xb)
    allowed = np.random.default_rng(1).random(len(xb)) < share
    allowed[:3] = True
    k = min(10, int(allowed.sum()))
    for _ in range(2):  # before it is saved, and after
        _, rows = index.search(xq, k, {"nprobe": 24, "k_factor": 16}, allowed)
        assert rows.min() >= 0 and allowed[rows].all()
        assert all(len(set(answers)) == k for answers in rows.tolist())
        assert recall_of(rows, xq, xb, metric, allowed) >= 0.97
        index.save(tmp_path / "x.faiss")


def test_what_is_allowed_in_other_lists_is_found(spread):
    xb = np.concatenate([spread, spread[:900] * 0.5 + 30]).astype(np.float32)
    index = make(Metric.L2, xb)
    allowed = np.arange(len(xb)) >= len(spread)
    _, rows = index.search(xb[:64], 10, {"nprobe": 1, "k_factor": 2}, allowed)
    assert recall_of(rows, xb[:64], xb, Metric.L2, allowed) >= 0.99


@pytest.mark.parametrize("k", [1, 100, 1000, 5999, 6000])
def test_as_many_as_there_are_can_be_asked_for(k, spread):
    index = make(Metric.L2, spread)
    _, rows = index.search(spread[:3], k, {"nprobe": 1, "k_factor": 1})
    assert all(len(set(answers)) == k and min(answers) >= 0 for answers in rows.tolist())


@pytest.mark.parametrize("n", [0, 1, 2, 15, 16, 17, 39, 100])
@pytest.mark.parametrize("dim", [1, 3, 65, 130])
def test_few_rows_and_any_dimensions(n, dim, tmp_path, capfd):
    x = np.random.default_rng(n).standard_normal((n, dim)).astype(np.float32)
    index = make(Metric.L2, x)
    index.save(tmp_path / "x.faiss")
    loaded = IVFIndex.load(tmp_path / "x.faiss", Metric.L2)
    assert len(index) == len(loaded) == n and loaded.dim == dim and loaded.nlist == max(n // 39, 1)
    for one in (index, loaded):
        scores, rows = one.search(np.zeros((2, dim), np.float32), n, {})
        assert scores.shape == rows.shape == (2, n)
        assert all(sorted(answers) == list(range(n)) for answers in rows.tolist())
    assert capfd.readouterr() == ("", ""), "FAISS has nothing to warn of"


def test_more_lists_than_the_sample_can_train_are_not_made(spread):
    index = IVFIndex.create(48, Metric.L2, {"nlist": 4000})
    assert index.training_rows == 39 * 4000
    index.train(spread)
    assert index.nlist == 6000 // 39


def test_the_same_rows_make_the_same_index(spread, tmp_path):
    for name in ("a", "b"):
        make(Metric.COSINE, l2_normalize(spread)).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a.f16").read_bytes() == (tmp_path / "b.f16").read_bytes()


def test_saved_loaded_and_saved_again_it_is_the_same(spread, tmp_path):
    index = make(Metric.COSINE, l2_normalize(spread))
    effort = {"nprobe": 8, "k_factor": 8}
    before = index.search(spread[:50], 10, effort)
    written = index.save(tmp_path / "x.faiss")
    assert written == [tmp_path / "x.faiss", tmp_path / "x.faiss.f16"]
    assert sorted(tmp_path.iterdir()) == written
    loaded = IVFIndex.load(tmp_path / "x.faiss", Metric.COSINE)
    loaded.save(tmp_path / "y.faiss")
    loaded.save(tmp_path / "x.faiss")  # over what it is mapped from
    again = IVFIndex.load(tmp_path / "y.faiss", Metric.COSINE)
    for one in (index, loaded, again, IVFIndex.load(tmp_path / "x.faiss", Metric.COSINE)):
        for ours, theirs in zip(before, one.search(spread[:50], 10, effort), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert one.bytes_per_vector == index.bytes_per_vector


def test_vectors_stay_on_disk_in_the_order_of_the_lists(spread, tmp_path):
    index = make(Metric.L2, spread)
    index.save(tmp_path / "x.faiss")
    _, rows, vectors = vectors_file.read(tmp_path / "x.faiss.f16")
    assert isinstance(vectors, np.memmap) and sorted(rows.tolist()) == list(range(6000))
    assert not index._ranked().index.codes.is_owned, "FAISS holds no copy"
    assert lists.order_of(index._lists).tolist() == list(range(6000))
    # neighbours on disk are near one another
    x = spread[rows]
    nearby = np.linalg.norm(x[1:] - x[:-1], axis=1).mean()
    assert nearby < 0.8 * np.linalg.norm(spread[1:] - spread[:-1], axis=1).mean()
    on_disk = (tmp_path / "x.faiss.f16").stat().st_size
    assert on_disk == pytest.approx(6000 * index.disk_bytes_per_vector, abs=8192)


def test_the_memory_that_is_planned_is_what_the_index_takes(spread, tmp_path):
    index = make(Metric.L2, spread)
    index.save(tmp_path / "x.faiss")
    planned = IVFIndex.planned_bytes(6000, 48, IVFIndex.plan(6000, 48, 0.95))
    assert planned == pytest.approx(6000 * index.bytes_per_vector)
    # all but the rows, 4 bytes each, which lie in the other file
    assert planned - 4 * 6000 == pytest.approx((tmp_path / "x.faiss").stat().st_size, rel=0.1)


def test_the_file_may_be_gone_once_it_is_open(spread, tmp_path):
    make(Metric.L2, spread).save(tmp_path / "x.faiss")
    index = IVFIndex.load(tmp_path / "x.faiss", Metric.L2)
    shutil.rmtree(tmp_path)
    gc.collect()
    _, rows = index.search(spread[:20], 1, index.efforts(1)[-1])
    assert (rows[:, 0] == np.arange(20)).all()


def test_damage_is_told(spread, tmp_path):
    path = tmp_path / "x.faiss"
    beside = tmp_path / "x.faiss.f16"
    make(Metric.L2, spread).save(path)
    whole = beside.read_bytes()
    for damaged in (b"", b"nonsense" * 100, whole[:-1], whole + b"x", whole[: len(whole) // 2]):
        beside.write_bytes(damaged)
        with pytest.raises(DamagedIndexError, match=r"x\.faiss\.f16"):
            IVFIndex.load(path, Metric.L2)
    make(Metric.L2, spread[:3000]).save(tmp_path / "y.faiss")
    shutil.copy(tmp_path / "y.faiss.f16", beside)
    with pytest.raises(DamagedIndexError, match=r"holds \(3000, 48\) vectors, not \(6000, 48\)"):
        IVFIndex.load(path, Metric.L2)
    beside.unlink()
    with pytest.raises(DamagedIndexError, match=r"x\.faiss\.f16 cannot be read"):
        IVFIndex.load(path, Metric.L2)


def test_another_faiss_index_is_not_taken_for_ours(spread, tmp_path):
    import faiss

    faiss.write_index(faiss.index_factory(48, "HNSW8"), str(tmp_path / "x.faiss"))
    with pytest.raises(DamagedIndexError, match="IndexHNSWFlat"):
        IVFIndex.load(tmp_path / "x.faiss", Metric.L2)


def test_a_row_is_no_answer_to_itself_and_no_more_is_ranked_for_it(spread):
    index = make(Metric.L2, spread)
    own = np.arange(40)
    _, rows = index.search_others(spread[:40], own, 10, {"nprobe": 8, "k_factor": 2})
    assert (rows != own[:, None]).all() and rows.min() >= 0


@pytest.mark.parametrize("nprobe", [1, 2, 8, 24])
def test_what_is_measured_with_rows_as_queries_is_what_a_search_does(nprobe, spread, monkeypatch):
    plans = []

    def noted(*arguments):
        plans.append(plan_search(*arguments))
        return plans[-1]

    monkeypatch.setattr("embedsearch.index.ivf.index.plan_search", noted)
    index = make(Metric.L2, spread)
    index.search(spread[:40], 10, {"nprobe": nprobe, "k_factor": 2})
    index.search_others(spread[:40], np.arange(40), 10, {"nprobe": nprobe, "k_factor": 2})
    assert plans[0].nprobe == plans[1].nprobe and plans[0].n_candidates + 1 == plans[1].n_candidates


def test_how_a_search_is_planned():
    n, n_lists = 1_000_000, 1000
    plain = plan_search(10, 16, 80, n_lists, n, n)
    assert plain is not None and (plain.nprobe, plain.n_candidates) == (16, 80)
    # half the rows allowed: twice the lists, so that as many allowed ones are met
    half = plan_search(10, 16, 80, n_lists, n, n // 2)
    assert half is not None and half.nprobe == 32
    # few rows are read one and all, where that takes less than meeting them in the lists: here up to 6 %
    share = (16 / n_lists / ROW_COST) ** 0.5
    assert plan_search(10, 16, 80, n_lists, n, int(1.1 * share * n)) is not None
    assert plan_search(10, 16, 80, n_lists, n, int(0.9 * share * n)) is None
    assert plan_search(10, 1, 10, n_lists, n, 1000) is None
    # more answers lie in more lists: by the root of their number
    many = plan_search(5000, 1, 5000, n_lists, n, n)
    assert many is not None and many.nprobe == math.ceil((5000 / 10) ** 0.5)
    # enough lists for k, whatever was asked
    most = plan_search(100_000, 1, 100_000, n_lists, n, n)
    assert most is not None and most.nprobe == 200
    assert plan_search(n, 1, n, n_lists, n, n) is None


@pytest.mark.parametrize("k", [1, 10, 100, 1000])
def test_efforts_grow_and_end_with_all_lists(k):
    for n_lists in (1, 15, 316, 3162):
        ladder = [(effort["nprobe"], effort["k_factor"]) for effort in efforts(k, n_lists)]
        assert ladder == sorted(ladder) and len(set(ladder)) == len(ladder)
        assert ladder[-1][0] == n_lists
        assert all(second[1] >= first[1] for first, second in pairwise(ladder))


def test_lists_and_codes_are_a_function_of_size():
    assert [lists.n_lists(n) for n in (0, 1, 100, 10_000, 1_000_000, 10_000_000)] == [1, 1, 2, 100, 1000, 3162]
    assert [lists.code_width(dim) for dim in (1, 64, 65, 128, 192, 193, 768)] == [1, 1, 2, 2, 2, 4, 4]
    assert lists.code_width(128, 0.99) == 1
    assert lists.code_bytes(128, 2) == 32 and lists.code_bytes(130, 3) == 22
    assert IVFIndex.planned_bytes(10_000_000, 128, IVFIndex.plan(10_000_000, 128, 0.95)) / 2**20 < 450
