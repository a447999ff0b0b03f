"""Groups of near-equal items, against connected components of the whole matrix of scores."""

import json
import math
import re

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

import embedsearch as es
from embedsearch.cli.main import run
from embedsearch.groups.forest import Forest
from embedsearch.groups.kept import kept_in
from embedsearch.groups.nearness import Nearness
from embedsearch.pipeline.duplicates import searching
from embedsearch.types import Metric


def truth(x, metric, limit):
    """The groups of two or more, as sets of rows."""
    scores = oracle.scores_of(x, x, metric)
    near = scores <= limit if metric == "l2" else scores >= limit - 1e-6
    np.fill_diagonal(near, False)
    _, labels = connected_components(csr_array(near), directed=False)
    groups = [frozenset(np.flatnonzero(labels == label).tolist()) for label in range(labels.max(initial=-1) + 1)]
    return {group for group in groups if len(group) > 1}


def sets(found):
    return {frozenset(map(int, group.ids)) for group in found}


def near_copies(rng, n=240, dim=12):
    """Items of which many are copies of one another, with more or less noise."""
    kinds = rng.normal(size=(n // 4, dim))
    noise = rng.choice([0, 0.001, 0.05, 0.3], size=(n, 1)) * rng.normal(size=(n, dim))
    return (kinds[rng.integers(0, n // 4, n)] + noise).astype(np.float32)


LIMITS = {"cosine": {"min_score": 0.97}, "ip": {"min_score": 9.0}, "l2": {"max_distance": 0.8}}


@pytest.mark.parametrize("metric", LIMITS)
@pytest.mark.parametrize("family", ["flat", "graph", "hnsw", "IVF4,Flat"])
@pytest.mark.parametrize("exact", [True, False])
def test_groups_are_the_connected_components(metric, family, exact, rng, tmp_path):
    x = near_copies(rng)
    index = es.build(x, tmp_path / "index", metric=metric, index=family)
    found = index.duplicates(**LIMITS[metric], exact=exact)
    expected = truth(x, metric, next(iter(LIMITS[metric].values())))
    assert len(expected) > 10
    assert sets(found) == expected and len(found) == len(expected)
    assert found.n_grouped == sum(map(len, expected)) and found.n_items == len(x) and found.is_exact is exact
    sizes = [len(group) for group in found]
    assert sizes == sorted(sizes, reverse=True)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.floats(0.5, 0.99), st.sampled_from(list(Metric)))
def test_any_block_of_scores_is_joined_as_brute_force_joins_it(seed, n, limit, metric):
    rng = np.random.default_rng(seed)
    x = near_copies(rng, max(n, 4), 5)
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) if metric is Metric.COSINE else x
    half = len(x) // 2
    forest, rows = Forest(len(x)), np.arange(len(x))
    nearness = Nearness(metric, limit)
    for ours, theirs in (
        (slice(0, half), slice(0, half)),
        (slice(0, half), slice(half, None)),
        (slice(half, None),) * 2,
    ):
        a, b = x[ours], x[theirs]
        forest.join_near(rows[ours], a, rows[theirs], b, nearness)
    roots = forest.roots()
    found = {frozenset(np.flatnonzero(roots == root).tolist()) for root in np.unique(roots)}
    assert {group for group in found if len(group) > 1} == truth(x, str(metric), limit)


def test_far_from_the_origin_distances_are_still_right(rng, tmp_path):
    x = (near_copies(rng) + 1000).astype(np.float32)
    index = es.build(x, tmp_path / "index", metric="l2", index="flat")
    assert sets(index.duplicates(max_distance=0.05)) == truth(x, "l2", 0.05)


@pytest.mark.parametrize("exact", [True, False])
def test_thousands_of_equal_items_are_one_group(exact, rng, tmp_path):
    x = np.concatenate([np.ones((3000, 4)), rng.normal(size=(50, 4))]).astype(np.float32)
    found = es.build(x, tmp_path / "index", metric="l2", index="graph").duplicates(max_distance=0, exact=exact)
    (group,) = found
    assert group.kept.id == "0" and len(group) == 3000 and group.worst_score == 0 and group.n_chained == 0
    assert sorted(map(int, found.ids_to_drop())) == list(range(1, 3000))


def test_items_of_one_direction_are_duplicates_at_a_score_of_one(rng, tmp_path):
    x = rng.normal(size=(40, 300)).astype(np.float32)
    index = es.build(np.concatenate([x, x * 3.7]), tmp_path / "index")
    assert sets(index.duplicates(min_score=1)) == {frozenset((n, n + 40)) for n in range(40)}


def test_a_group_with_more_members_than_are_asked_for_is_grown_from_outside(monkeypatch, rng, tmp_path):
    monkeypatch.setattr(searching, "DEPTHS", (2, 3))
    line = np.stack([np.cumsum(np.repeat([0.01, 0.9], [60, 20])), np.zeros(80)], axis=1).astype(np.float32)
    index = es.build(line, tmp_path / "index", metric="l2", index="graph")
    assert sets(index.duplicates(max_distance=0.85, exact=False)) == truth(line, "l2", 0.85) != set()


def degrees(*angles):
    turned = np.radians(angles)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)


def test_a_chain_keeps_its_middle_and_says_who_is_only_linked(tmp_path):
    index = es.build(degrees(0, 10, 20, 30, 40, 90), tmp_path / "index")
    limit = math.cos(math.radians(11))
    found = index.duplicates(min_score=limit)
    (group,) = found
    assert group.ids == ["2", "1", "3", "0", "4"] and group.n_chained == 2 == found.n_chained
    assert group.worst_score == pytest.approx(math.cos(math.radians(20)), abs=1e-6)
    assert list(found.ids_to_drop()) == ["1", "3"] and len(list(found.ids_to_drop(chained=True))) == 4
    strict = index.duplicates(min_score=limit, strict=True)
    assert [group.ids for group in strict] == [["2", "1", "3"]] and strict.n_chained == 0


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_strict_keeps_each_item_near_to_what_is_kept(seed, n):
    x = near_copies(np.random.default_rng(seed), max(n, 4), 4)
    nearness = Nearness(Metric.L2, 1.0)
    kept, near = kept_in(len(x), lambda places: x[places], nearness, strict=True)
    scores = oracle.scores_of(x, x, "l2")
    assert (kept[kept] == kept).all(), "what is kept is kept for itself"
    np.testing.assert_allclose(-near, scores[np.arange(len(x)), kept], atol=1e-9)
    assert (-near <= 1).all()
    leaders = np.unique(kept)
    np.testing.assert_allclose(-near, scores[:, leaders].min(axis=1), atol=1e-9)


def test_what_was_deleted_is_in_no_group_and_what_was_added_is(rng, tmp_path):
    x = rng.normal(size=(100, 8)).astype(np.float32)
    index = es.build(np.concatenate([x, x[:10]]), tmp_path / "index", index="graph")
    index.delete(["0", "101"])
    index.add(x[50:52], ids=["a", "b"])
    for exact in (True, False):
        found = {frozenset(group.ids) for group in index.duplicates(exact=exact)}
        pairs = {frozenset((str(n), str(n + 100))) for n in range(2, 10)}
        assert found == pairs | {frozenset(("50", "a")), frozenset(("51", "b"))}


def test_a_condition_leaves_the_rest_out(rng, tmp_path):
    x = rng.normal(size=(50, 8)).astype(np.float32)
    metadata = {"part": ["a"] * 50 + ["b"] * 40 + ["a"] * 10}
    index = es.build(np.concatenate([x, x]), tmp_path / "index", metadata=metadata)
    found = index.duplicates(where="part = 'a'")
    assert sets(found) == {frozenset((n, n + 50)) for n in range(40, 50)} and found.n_items == 60


def test_nothing_is_found_in_little(tmp_path, rng):
    index = es.build(rng.normal(size=(2, 8)).astype(np.float32), tmp_path / "index")
    assert list(index.duplicates(min_score=1)) == [] == list(index.duplicates(where="id = '0'", exact=False))
    index.delete(["0", "1"])
    assert len(index.duplicates()) == 0 == len(index.duplicates(exact=False))


def test_wrong_limits_are_told(tmp_path, rng):
    x = rng.normal(size=(20, 8)).astype(np.float32)
    cosine, l2 = es.build(x, tmp_path / "c"), es.build(x, tmp_path / "l", metric="l2")
    for call, told in (
        (lambda: cosine.duplicates(min_score=95), "between -1 and 1"),
        (lambda: cosine.duplicates(max_distance=1), "give min_score"),
        (lambda: l2.duplicates(), "give max_distance"),
        (lambda: l2.duplicates(max_distance=-1), "no squared distance lies below 0"),
        (lambda: es.build(x, tmp_path / "i", metric="ip").duplicates(), "give min_score"),
    ):
        with pytest.raises(es.EmbedSearchError, match=told):
            call()


def command(capsys, *args):
    with pytest.raises(SystemExit) as end:
        run(["duplicates", *map(str, args)])
    told = capsys.readouterr()
    return end.value.code, told.out, told.err


def test_the_command_lists_draws_and_drops(folder, tmp_path, capsys, monkeypatch):
    for path in sorted(folder.glob("*.png"))[:3]:
        (folder / f"copy-{path.name}").write_bytes(path.read_bytes())
    es.build(folder, tmp_path / "index", weights="packaged", size=64)
    drop, sheet = tmp_path / "drop.txt", tmp_path / "groups.png"
    code, out, err = command(capsys, tmp_path / "index", "--min-score", 0.999, "--drop", drop, "--sheet", sheet)
    assert code == 0 and err == "" and "3 groups of 6 items among 13 (all pairs compared); 3 could go" in out
    assert f"embedsearch delete {tmp_path / 'index'} - < {drop}" in out and sheet.stat().st_size > 1000
    code, out, _ = command(capsys, tmp_path / "index", "--min-score", 0.999, "--format", "jsonl")
    groups = [json.loads(line) for line in out.splitlines()]
    assert len(groups) == 3 and all(group["others"][0]["score"] > 0.999 for group in groups)
    assert sorted(drop.read_text().splitlines()) == sorted(group["others"][0]["id"] for group in groups)
    es.open(tmp_path / "index").delete(drop.read_text().splitlines())
    code, out, _ = command(capsys, tmp_path / "index", "--min-score", 0.999, "--json")
    assert json.loads(out)["n_groups"] == 0 and json.loads(out)["n_items"] == 10
    assert command(capsys, tmp_path / "index", "--format", "xml")[0] == 2
    (tmp_path / "a.png").mkdir()
    for option, place, told in (
        ("--drop", "a.png", "it is a folder"),
        ("--drop", "no/drop.txt", "does not exist"),
        ("--sheet", "a.png", "it is a folder"),
    ):
        code, out, err = command(capsys, tmp_path / "index", option, tmp_path / place)
        assert (code, out) == (2, "") and told in err
    assert not (tmp_path / "a.png.tmp").exists()


def test_the_command_shows_texts_and_metadata(tmp_path, rng, capsys):
    x = rng.normal(size=(6, 8)).astype(np.float32)
    texts = ["the same\nthing", "the same thing, told at more length than a line of a table has room for", *"abcd"]
    metadata = {"shop": list("nsnsns"), "text": texts, "price": [1.5, float("nan"), 1, 2, 3, 4]}
    x[1] = x[0]
    es.build(x, tmp_path / "i", metadata=metadata)
    code, out, _ = command(capsys, tmp_path / "i")
    lines = out.splitlines()
    assert code == 0 and lines[1].split() == ["kept", "0", "the", "same", "thing"]
    assert re.fullmatch(r"  1.0000  1   ?the same thing, .*\u2026", lines[2]) and len(lines[2]) < 80
    (group,) = json.loads(command(capsys, tmp_path / "i", "--json")[1])["groups"]
    assert group["kept"]["metadata"] == {"shop": "n", "text": texts[0], "price": 1.5}
    assert group["others"][0]["metadata"]["price"] is None
