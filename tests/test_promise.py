"""Promises of recall, memory and latency: measured on queries that nothing was tuned on, kept, or refused."""

import functools
import json
import re

import numpy as np
import oracle
import pytest

import embedsearch as es
from embedsearch.cli import main
from embedsearch.cli.told import how_it_finds
from embedsearch.errors import PromiseError, UsageError
from embedsearch.index.graph.index import GraphIndex
from embedsearch.index.graph.linking import Linker
from embedsearch.index.growth import K_GROWTH
from embedsearch.pipeline import search, tuning
from embedsearch.pipeline.fit import sample_rows
from embedsearch.pipeline.truth import N_QUERIES, exact_truth, query_rows
from embedsearch.pipeline.tuning import Point, at_recall
from embedsearch.types import Metric, NoProgress

N, DIM = 6000, 32


@pytest.fixture(scope="module")
def vectors():
    """Like embeddings: many dimensions, few of them independent."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(N + 500, 12)) @ rng.normal(size=(12, DIM)) + 0.3 * rng.normal(size=(N + 500, DIM))
    return x[:N].astype(np.float32), x[N:].astype(np.float32)


@pytest.fixture(scope="module", params=["graph", "ivf", "hnsw", "IVF64,Flat", "PCA24,HNSW16_SQ8,RFlat"])
def index(request, vectors, tmp_path_factory):
    return es.build(vectors[0], tmp_path_factory.mktemp("promised") / "x", index=request.param, recall=0.95)


def found_share(index, xq, xb, **asked):
    ids, _ = index.search_vectors(xq, k=10, **asked)
    truth = np.argsort(-oracle.scores_of(xq, xb, "cosine"), axis=1)[:, :10]
    return np.mean(
        [len({int(i) for i in row if i is not None} & set(best)) / 10 for row, best in zip(ids, truth, strict=True)]
    )


def test_the_promise_is_kept_for_queries_that_the_index_has_never_seen(index, vectors):
    assert found_share(index, vectors[1], vectors[0]) >= 0.95 - 0.015


def test_what_was_measured_stands_in_the_manifest(index, vectors):
    entry = index.info()["index"]
    tuned = entry["tuned"]
    assert entry["recall_at_10"] == tuned["measured"]["recall"] >= 0.95
    assert tuned["measured"]["low"] <= tuned["measured"]["recall"] <= tuned["measured"]["high"]
    assert tuned["n_queries"] == 600 and tuned["latency_ms"] > 0 and tuned["measured"]["queries_per_s"] > 0
    assert entry["threads"] >= 1 and entry["simd"] and entry["bytes_per_vector"] > 0
    effort = {name: value for name, value in entry["search"].items() if name != K_GROWTH}
    assert effort == tuned["measured"]["search"] in [point["search"] for point in tuned["curve"]]
    assert tuned["wide"]["recall"] >= 0.94  # chosen on one half of the queries, measured on the other
    assert entry["request"]["recall"] == 0.95
    # the measurement is honest: brute force over the same kind of queries says the same
    assert abs(found_share(index, vectors[1], vectors[0]) - tuned["measured"]["recall"]) < 0.03


def test_a_call_may_ask_for_more_or_less(index, vectors):
    curve = index.info()["index"]["tuned"]["curve"]
    most = max(point["recall"] for point in curve)
    assert found_share(index, vectors[1], vectors[0], recall=most) >= most - 0.02
    assert index.search(vector=vectors[1][0], recall=curve[0]["recall"])
    if most < 1:
        with pytest.raises(UsageError, match=r"measured to reach at most .*--recall 1 or --index flat"):
            index.search_vectors(vectors[1], recall=1.0)
    with pytest.raises(UsageError, match="recall is 2"):
        index.search_vectors(vectors[1], recall=2)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001, 3 / N])
@pytest.mark.parametrize("kind", ["by chance", "one corner"])
@pytest.mark.parametrize("exact_rows", [1000, 0])
def test_filters_keep_the_promise_and_are_never_short(index, vectors, share, kind, exact_rows, monkeypatch):
    """exact_rows: 0 leaves small sets to the index as well."""
    monkeypatch.setattr(search, "EXACT_ROWS", exact_rows)
    n = round(share * N)
    near = oracle.scores_of(vectors[0][:1], vectors[0], "cosine")[0]
    allowed = np.argsort(-near)[:n] if kind == "one corner" else np.random.default_rng(n).choice(N, n, replace=False)
    where = f"id in ({', '.join(repr(str(i)) for i in allowed)})"
    xq, xb = vectors[1][:100], vectors[0]
    k = min(10, n)
    ids, scores = index.search_vectors(xq, k=10, where=where)
    assert ids.shape == (100, k) and all(i is not None for i in ids.ravel()) and np.isfinite(scores).all()
    assert {int(i) for i in ids.ravel()} <= set(allowed.tolist())
    truth = oracle.scores_of(xq, xb[allowed], "cosine")
    best = allowed[np.argsort(-truth, axis=1)[:, :k]]
    recall = np.mean([len({int(i) for i in row} & set(b)) / k for row, b in zip(ids, best, strict=True)])
    assert recall >= (1.0 if n <= exact_rows else 0.95 - 0.02)


@pytest.mark.parametrize("share", [0.5, 0.2])
@pytest.mark.parametrize(
    ("family", "metric"),
    [*((family, metric) for family in ("graph", "hnsw") for metric in ("cosine", "l2", "ip")), ("ivf", "cosine")],
)
def test_a_filter_that_leaves_rows_far_from_the_query_costs_no_recall(family, metric, share, tmp_path, monkeypatch):
    """Clusters, of which a condition leaves some: most queries lie in others."""
    monkeypatch.setattr(search, "EXACT_ROWS", 0)
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(100, 32))
    of = rng.integers(0, 100, 10_100)
    x = (centres[of] + 0.5 * rng.normal(size=(10_100, 32))).astype(np.float32)
    xb, xq = x[100:] * rng.uniform(0.5, 2, (10_000, 1)).astype(np.float32), x[:100]
    index = es.build(xb, tmp_path / "x", index=family, recall=0.95, metric=metric, metadata={"c": of[100:].tolist()})
    allowed = np.flatnonzero(of[100:] < 100 * share)
    ids, _ = index.search_vectors(xq, k=10, where=f"c < {100 * share:g}")
    truth = oracle.scores_of(xq, xb[allowed], metric)
    best = allowed[np.argsort(truth if metric == "l2" else -truth, axis=1)[:, :10]]
    found = np.mean([len({int(i) for i in row} & set(b)) / 10 for row, b in zip(ids, best, strict=True)])
    assert found >= 0.95 - 0.02


def test_ten_thousand_answers_can_be_asked_for(index, vectors):
    ids, _ = index.search_vectors(vectors[1][:2], k=10_000)
    assert all(sorted(map(int, row)) == list(range(N)) for row in ids)


def test_a_promise_that_cannot_be_kept_says_how_far_it_comes_and_what_would_keep_it(vectors, tmp_path):
    with pytest.raises(PromiseError, match=r"recall 0.999 cannot be kept by factory: .* finds 0\.\d+.*--index flat"):
        es.build(vectors[0], tmp_path / "x", index="IVF16,PQ4x4", recall=0.999)
    # what was stored is kept, and serves another promise
    assert es.build(vectors[0], tmp_path / "x", index="flat", recall=1).info()["index"]["recall_at_10"] == 1.0


def test_a_latency_that_no_search_keeps_is_refused(vectors, tmp_path):
    with pytest.raises(PromiseError, match=r"takes .* ms a query here, more than --latency-ms 1e-05"):
        es.build(vectors[0], tmp_path / "x", index="hnsw", recall=0.9, latency_ms=1e-5)


def test_less_recall_that_is_in_time_is_what_is_offered(vectors, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "_latency_ms", lambda index, xq, search: float(search["ef_search"]))
    with pytest.raises(PromiseError) as error:
        es.build(vectors[0], tmp_path / "x", index="hnsw", recall=0.99, latency_ms=16)
    told = re.search(
        r"more than --latency-ms 16; --recall (0\.\d+) takes (\d+)\.00 ms, or allow more time", str(error.value)
    )
    assert told and float(told[1]) < 0.99 and int(told[2]) <= 16
    offered = es.build(vectors[0], tmp_path / "x", index="hnsw", recall=float(told[1]), latency_ms=16)
    assert offered.info()["index"]["tuned"]["latency_ms"] <= 16
    with pytest.raises(PromiseError, match="no search with less recall was in time either, so allow more time"):
        es.build(vectors[0], tmp_path / "x", index="hnsw", recall=0.99, latency_ms=1e-3)


def test_the_latency_of_exact_search_is_promised_and_measured_too(vectors, tmp_path):
    with pytest.raises(PromiseError, match=r"exact search takes .* ms a query here, more than --latency-ms 1e-06"):
        es.build(vectors[0], tmp_path / "x", index="flat", latency_ms=1e-6)
    tuned = es.build(vectors[0], tmp_path / "x", index="flat", latency_ms=1e3).info()["index"]["tuned"]
    assert 0 < tuned["latency_ms"] < 1e3 and tuned["measured"]["queries_per_s"] > 0


def test_the_memory_of_centroids_is_in_the_promise(vectors, tmp_path):
    build = {"index": "IVF512,PQ8", "restart": True}
    needed = 512 * DIM * 4 + N * 16
    with pytest.raises(PromiseError, match="do not fit"):
        es.build(vectors[0], tmp_path / "x", memory=needed - 1000, **build)
    entry = es.build(vectors[0], tmp_path / "x", memory=needed + 1000, **build).info()["index"]
    assert entry["bytes_per_vector"] * N == pytest.approx(needed, rel=0.01)


def test_an_index_that_takes_more_than_was_planned_is_refused(vectors, tmp_path, monkeypatch):
    monkeypatch.setattr(GraphIndex, "planned_bytes", lambda *arguments: 10.0)
    with pytest.raises(PromiseError, match=r"graph takes [\d.]+MiB, more than --memory 1MiB allows"):
        es.build(vectors[0], tmp_path / "x", index="graph", memory="1MiB")


def test_a_call_is_held_to_the_rule_of_the_build():
    curve = [Point({"e": e}, mean, mean - 0.01, mean + 0.01, 1.0) for e, mean in enumerate([0.9, 0.955, 0.97])]
    assert at_recall(curve, 0.95) == {"e": 2}, "the lower end decides"
    assert at_recall(curve, 0.965) == {"e": 2}, "unless none is so high"
    assert at_recall(curve, 0.98) is None


def test_optimize_takes_another_promise(vectors, tmp_path):
    index = es.build(vectors[0], tmp_path / "x", index="graph", recall=0.9)
    assert index.optimize(recall=0.9).up_to_date
    assert not index.optimize(recall=0.98).up_to_date
    entry = index.info()["index"]
    assert (
        entry["request"]["recall"] == 0.98 and entry["request"]["family"] == "graph" and entry["recall_at_10"] >= 0.98
    )
    before = index.info()["generation"]
    with pytest.raises(PromiseError, match="do not fit"):
        index.optimize(memory="1KiB")
    assert es.open(tmp_path / "x").info()["generation"] == before
    index.delete(["5"])
    assert index.optimize().n_dropped == 1, "a promise that was refused leaves nothing behind"
    assert index.optimize(index="flat", recall=1).family == "flat"


def test_a_promise_goes_on_being_kept_by_later_builds(vectors, tmp_path):
    np.save(tmp_path / "x.npy", vectors[0])
    es.build(tmp_path / "x.npy", tmp_path / "i", index="graph", recall=0.9)
    np.save(tmp_path / "x.npy", vectors[0][:5000])
    again = es.build(tmp_path / "x.npy", tmp_path / "i")
    assert again.info()["index"]["request"] == {
        "family": "graph",
        "recall": 0.9,
        "memory_bytes": None,
        "latency_ms": None,
    }
    assert len(again) == 5000 and again.info()["index"]["family"] == "graph"
    other = es.build(tmp_path / "x.npy", tmp_path / "i", index="graph", recall=0.97)
    assert other.info()["index"]["recall_at_10"] >= 0.97


def asked(index):
    return {name: value for name, value in index.info()["index"]["request"].items() if value is not None}


def test_a_build_that_promises_one_thing_more_keeps_the_others(vectors, tmp_path):
    np.save(tmp_path / "x.npy", vectors[0])
    build = functools.partial(es.build, tmp_path / "x.npy", tmp_path / "i")
    build(index="graph", recall=0.9, memory="64MiB")
    assert asked(build(latency_ms=5000)) == {
        "family": "graph",
        "recall": 0.9,
        "memory_bytes": 2**26,
        "latency_ms": 5000,
    }
    generation = es.open(tmp_path / "i").info()["generation"]
    assert build(recall=0.9).info()["generation"] == generation == build().info()["generation"], "nothing is new"
    opened = build(index="auto", recall=0.8)
    assert asked(opened) == {"family": "auto", "recall": 0.8, "memory_bytes": 2**26, "latency_ms": 5000}
    assert opened.info()["index"]["family"] == "flat" and opened.info()["generation"] == generation + 1
    with pytest.raises(PromiseError, match="do not fit"):
        build(memory="1KiB")
    assert asked(build()) == asked(opened), "what could not be promised is not asked for again"
    assert asked(build(restart=True)) == {"family": "auto"}


def test_what_is_too_small_to_be_timed_says_so(tmp_path):
    index = es.build(np.eye(4), tmp_path / "i", index="graph", latency_ms=5)
    told = dict(how_it_finds(index.info()["index"]))
    assert told["recall@10"] == "not measured" and told["speed"] == "not measured, 5 ms promised"


def test_the_command_line_promises_one_thing_more(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(1500, 8)).astype(np.float32))
    for options in (["--index", "hnsw", "--recall", "0.9"], ["--latency-ms", "1000"], ["--index", "auto"]):
        with pytest.raises(SystemExit) as exit_code:
            main.run(["build", str(tmp_path / "x.npy"), "--out", str(tmp_path / "i"), *options, "--json"])
        assert exit_code.value.code == 0
        request = json.loads(capsys.readouterr().out)["index"]["request"]
    assert request == {"family": "auto", "recall": 0.9, "memory_bytes": None, "latency_ms": 1000}


def test_queries_are_in_no_training_sample():
    for n in (11, 1000, 200_000):
        queries = query_rows(n)
        assert len(set(queries.tolist())) == len(queries) == min(N_QUERIES, -(-n // 5))
        assert not set(queries.tolist()) & set(sample_rows(n, without=queries).tolist())


def test_too_few_rows_to_measure_on_are_said_to_be_so(tmp_path):
    x = np.eye(8, dtype=np.float32)
    index = es.build(x, tmp_path / "x", index="graph", recall=0.9)
    assert index.info()["index"]["recall_at_10"] is None
    assert [hit.id for hit in index.search(vector=x[3], k=1)] == ["3"]


def test_the_same_seed_gives_the_same_index(vectors, tmp_path):
    def files(out):
        import faiss

        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            es.build(vectors[0], out, index="graph")
        finally:
            faiss.omp_set_num_threads(before)
        return (out / "index-000001.graph").read_bytes()

    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_range_search_gives_all_that_score_so_much(index, vectors):
    q = vectors[1][3]
    truth = oracle.scores_of(q[None], vectors[0], "cosine")[0]
    limit = float(np.sort(truth)[-151:-149].mean())  # between two scores
    hits = index.search(vector=q, k=None, min_score=limit)  # exact, whatever the family
    assert {hit.id for hit in hits} == {str(i) for i in np.flatnonzero(truth >= limit)} and len(hits) == 150
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits.note is None
    some = index.search(vector=q, k=None, min_score=limit, where="id < '3'")
    assert [hit.id for hit in some] == [hit.id for hit in hits if hit.id < "3"]
    assert index.search(vector=q, k=None, min_score=0.99999).note.startswith("no item scores 0.99999 or more")


def test_range_search_of_squared_distances(vectors, tmp_path):
    index = es.build(vectors[0], tmp_path / "x", metric="l2")
    truth = ((vectors[1][3].astype(np.float64) - vectors[0]) ** 2).sum(axis=1)
    limit = float(np.sort(truth)[150:152].mean())
    hits = index.search(vector=vectors[1][3], k=None, max_distance=limit)
    assert {hit.id for hit in hits} == {str(i) for i in np.flatnonzero(truth <= limit)} and hits.note is None
    none = index.search(vector=vectors[1][3], k=None, max_distance=1e-6)
    assert not none and none.note.startswith("no item is within a squared distance of 1e-06; the nearest is at")
    some = index.search(vector=vectors[1][3], k=200, max_distance=limit)
    assert len(some) == 151 and some.note == f"151 of the 200 best are within a squared distance of {limit:g}"
    with pytest.raises(UsageError, match="give max_distance, not min_score"):
        index.search(vector=vectors[1][3], min_score=1)


def test_the_command_line_says_what_was_promised_and_measured(vectors, tmp_path, capsys):
    def run(*arguments, code=0):
        with pytest.raises(SystemExit) as end:
            main.run([str(argument) for argument in arguments])
        assert end.value.code == code
        return capsys.readouterr()

    np.save(tmp_path / "x.npy", vectors[0])
    done = run("build", tmp_path / "x.npy", "--out", tmp_path / "i", "--index", "graph", "--recall", "0.95").out
    assert "recall@10 0.9" in done and "0.95 promised" in done and "queries/s in batches" in done
    told = run("info", tmp_path / "i").out
    assert "0.95 promised" in told and "ms a query alone (ef_search" in told
    assert json.loads(run("info", tmp_path / "i", "--json").out)["index"]["tuned"]["curve"]
    again = run(
        "optimize", tmp_path / "i", "--index", "ivf", "--recall", "0.9", "--memory", "1.5MiB", "--latency-ms", "1000"
    ).out
    assert "fresh index: ivf (asked for)" in again
    told = run("info", tmp_path / "i").out
    assert "and 72 on disk, at most 1.5MiB in all promised" in told and "0.9 promised" in told
    assert "ms a query alone, 1000 ms promised (nprobe" in told
    refused = run("build", tmp_path / "x.npy", "--out", tmp_path / "j", "--memory", "1KiB", code=1).err
    assert "allow --memory" in refused and "Traceback" not in refused
    wrong = run("build", tmp_path / "x.npy", "--out", tmp_path / "j", "--memory", "much", code=2).err
    assert "'much' is no size" in wrong
    hits = json.loads(run("query", tmp_path / "i", "--id", "7", "-k", "all", "--min-score", "-1", "--json").out)[0]
    assert len(hits["hits"]) == N - 1 and hits["note"] is None
    assert "-k is 'few'" in run("query", tmp_path / "i", "--id", "7", "-k", "few", code=2).err


@pytest.mark.parametrize("family", ["graph", "ivf"])
def test_groups_of_equal_rows_cost_no_recall(family, tmp_path):
    """More rows tie with the tenth than exact answers are kept."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(2000, 24)), np.repeat(rng.normal(size=(10, 24)), 300, axis=0)])
    x = rng.permutation(x).astype(np.float32)
    index = es.build(x, tmp_path / "x", index=family, recall=0.95)
    ids, scores = index.search_vectors(x[:200], k=10)
    best = -np.sort(-oracle.scores_of(x[:200], x, "cosine"), axis=1)[:, :10]
    assert index.info()["index"]["tuned"]["measured"]["recall"] >= 0.95
    assert (scores >= best[:, -1:] - 1e-3).mean() >= 0.94 and len({*ids[0]}) == 10


def test_a_graph_that_lost_what_it_took_later_is_searched_harder_or_refused(vectors, tmp_path, monkeypatch):
    """What was held out is measured with again once it is in the graph."""
    asked = []
    real = tuning._measure

    def measure(index, truth, search, k=10, *, held=False):
        point = real(index, truth, search, k, held=held)
        if not held:
            return point
        asked.append(search["ef_search"])
        return point if len(asked) > 2 else tuning.replace(point, recall=0.5, low=0.5)

    monkeypatch.setattr(tuning, "_measure", measure)
    entry = es.build(vectors[0], tmp_path / "x", index="graph", recall=0.95).info()["index"]
    tuned = entry["tuned"]
    assert len(asked) == 4  # the last time for a hundred answers
    assert entry["search"]["ef_search"] == asked[2] == tuned["measured"]["search"]["ef_search"] > asked[0]
    # nor does a search that asks for the promise take what was refuted
    assert es.open(tmp_path / "x")._searcher._effort(0.95) == entry["search"]
    assert [point["recall"] for point in tuned["curve"] if point["search"]["ef_search"] in asked[:2]] == [0.5, 0.5]
    monkeypatch.setattr(
        tuning,
        "_measure",
        lambda *given, held=False, **more: tuning.replace(
            real(*given, held=held, **more), **({"recall": 0.5, "low": 0.5} if held else {})
        ),
    )
    with pytest.raises(PromiseError, match=r"finds 0\.5000"):
        es.build(vectors[0], tmp_path / "y", index="graph", recall=0.95)
    shown = es.build(vectors[0], tmp_path / "z", index="graph").info()["index"]
    assert shown["recall_at_10"] == 0.5  # where nothing was promised, what was found is told


def test_rows_that_no_way_leads_to_are_noticed(vectors, tmp_path, monkeypatch):
    """The graph takes what was held out, and links none of it."""
    link, calls = Linker.link, []

    def first_only(linker, nodes, report):
        calls.append(len(nodes))
        return link(linker, nodes, report) if len(calls) == 1 else None

    monkeypatch.setattr(Linker, "link", first_only)
    with pytest.raises(PromiseError, match=r"cannot be kept by graph: its most thorough search finds 0.[78]"):
        es.build(vectors[0], tmp_path / "x", index="graph", recall=0.95)
    assert calls == [N - N // 5, N // 5]


def test_an_effort_that_was_not_needed_before_is_tried_where_others_are_refuted(tmp_path):
    """Few rows of many dimensions: the first efforts find all while a fifth is held out, and too little afterwards."""
    x = np.random.default_rng(1).normal(size=(60, 384)).astype(np.float32)
    index = es.build(x, tmp_path / "x", index="graph", recall=0.95)
    assert found_share(index, x, x) >= 0.95


def test_rows_in_the_truth_are_those_of_brute_force_before_and_after_they_are_let_in(index, vectors):
    store, xb = (
        index._searcher.store,
        oracle.scores_of(index._searcher.store.vectors_at(np.arange(N)), vectors[0], "cosine"),
    )
    own = query_rows(N)[:50]
    apart = exact_truth(store, own, 20, Metric.COSINE, NoProgress(), apart=True)
    scores = xb[own]
    scores[np.arange(50), own] = -np.inf
    without = scores.copy()
    without[:, own] = -np.inf
    for truth, among in ((apart, without), (apart.with_one_another(), scores)):
        best = -np.sort(-among, axis=1)[:, :20]
        np.testing.assert_allclose(np.take_along_axis(among, truth.rows, axis=1), best, atol=1e-6)
        np.testing.assert_allclose(truth.scores, best, atol=1e-5)
