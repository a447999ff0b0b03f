"""Tuning: what it taps, scores and chooses, against plain passes and scikit-learn."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

import embedsearch as es
from embedsearch.cli.main import run
from embedsearch.decoders import decode_image, fit_image
from embedsearch.errors import UsageError
from embedsearch.evaluate import bootstrapped
from embedsearch.pipeline.tune import scoring
from embedsearch.pipeline.tune.candidates import Candidate, candidate_layers
from embedsearch.pipeline.tune.choosing import choose, clustered_error
from embedsearch.pipeline.tune.sample import Truth
from embedsearch.pipeline.tune.scoring import Projector, found_again, judged_values
from embedsearch.pipeline.tune.splits import folds_of, split
from embedsearch.pipeline.tune.tapped import TappedNetwork
from embedsearch.postprocess import fit_projection
from embedsearch.vectors import l2_normalize

LAYERS = ["features.8", "features.15", "features.22", "features.29"]
N_CODES = 45


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, emoji):
    """Drawings of the same codes by two vendors, and the code of each."""
    root, labels = tmp_path_factory.mktemp("tune") / "pictures", {}
    names = sorted({p.name for p in emoji["google"]} & {p.name for p in emoji["twitter"]})[:N_CODES]
    for vendor, paths in emoji.items():
        (root / vendor).mkdir(parents=True)
        for path in paths:
            if path.name in names:
                shutil.copy(path, root / vendor)
                labels[f"{vendor}/{path.name}"] = path.stem
    return root, labels


@pytest.fixture(scope="module")
def tuned(drawn):
    root, labels = drawn
    out = root.parent / "best.json"
    picture = root.parent / "best.png"
    return es.tune(root, labels, weights="packaged", size=64, layers=LAYERS, out=out, heatmap=picture)


def test_a_tapped_row_holds_what_a_plain_pass_gives(vgg16, emoji):
    encoder = es.Encoder("vgg16", weights="packaged", size=64, layer=LAYERS)
    network = encoder.network_of(TappedNetwork, encoder.recipe)
    row = encoder.through(network, emoji["google"][:2]).vectors
    pixels = np.stack([fit_image(decode_image(p.read_bytes(), 64), 64) for p in emoji["google"][:2]])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        1, 3, 1, 1
    )
    plain = es.Encoder("vgg16", weights="packaged", size=64).backbone._module
    seen, start, places = {}, 0, {}
    for cell, dim in network.cells.items():
        places[cell.layer, cell.pooling] = slice(start, start + dim)
        start += dim
    with torch.inference_mode():
        for number, layer in enumerate(plain.features):
            x = layer(x)
            seen[f"features.{number}"] = x.clone().numpy()
    for name in LAYERS:
        for pooling, pooled in (("mean", seen[name].mean((2, 3))), ("max", seen[name].max((2, 3)))):
            wanted = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
            np.testing.assert_allclose(row[:, places[name, pooling]], wanted, atol=1e-5)
    assert row.shape[1] == start == sum(dim for dim in network.cells.values())


def test_the_reported_figure_is_that_of_scikit_learn_on_vectors_of_an_encoder(tuned, drawn):
    root, labels = drawn
    some = [scored for scored in tuned.ranked if not scored.candidate.projection][:3]
    for scored in (*some, tuned.default):
        encoder = es.Encoder(
            "vgg16", weights="packaged", size=64, layer=scored.candidate.layers, pooling=scored.candidate.pooling
        )
        ids = [item_id for name, part in tuned.parts.items() if name.startswith("fold") for item_id in part]
        x = encoder.encode([root / item_id for item_id in ids])
        codes = np.array([labels[item_id] for item_id in ids])
        found = []
        for at in range(len(ids)):
            others = np.arange(len(ids)) != at
            found.append(average_precision_score(codes[others] == codes[at], (x @ x[at])[others]))
        assert scored.choosing.mean == pytest.approx(np.mean(found), abs=1e-3)
    assert tuned.default.report["mAP"].mean == pytest.approx(tuned.default.choosing.mean)


def test_parts_share_no_item_and_no_label(tuned, drawn):
    _, labels = drawn
    ids = [set(part) for part in tuned.parts.values()]
    codes = [{labels[item_id] for item_id in part} for part in ids]
    assert tuned.whole_labels and sum(map(len, ids)) == len(labels)
    assert list(tuned.parts) == ["fit", "answer", "fold 1", "fold 2", "fold 3", "fold 4", "fold 5"]
    for a in range(len(ids)):
        for b in range(a):
            assert not ids[a] & ids[b] and not codes[a] & codes[b]


def test_the_recipe_builds_an_index_of_what_was_chosen(tuned, drawn, tmp_path):
    root, labels = drawn
    index = es.build(root, tmp_path / "index", recipe=tuned.out)
    recipe, chosen = index.info()["recipe"], tuned.chosen.candidate
    assert tuple(recipe["layers"]) == chosen.layers and recipe["pooling"] == chosen.pooling
    assert recipe["whiten"] == chosen.whiten and recipe["pca"] == chosen.pca and recipe["size"] == 64
    assert 4 * index.vectors(next(iter(labels)) and [next(iter(labels))]).shape[1] == tuned.chosen.bytes_per_vector
    assert not list(root.parent.glob("*.partial"))


def test_what_is_printed(tuned):
    text = str(tuned)
    assert f"tuned on {2 * N_CODES} of {2 * N_CODES} items, by labels" in text
    assert "default" in text and "verdict" in text and "features.22" in text
    told = json.loads(json.dumps(tuned.to_dict(), allow_nan=False))
    assert told["recipe"]["backbone"] == "vgg16" and len(told["heatmap"]["values"]) == len(LAYERS)


def test_projections_from_one_decomposition_are_those_of_their_own(rng):
    x = l2_normalize((rng.normal(size=(90, 40)) * np.linspace(3, 0.1, 40)).astype(np.float32))
    projector = Projector(x[:60], 30)
    for candidate in (
        Candidate(("a",), "mean", pca=8),
        Candidate(("a",), "mean", whiten=16),
        Candidate(("a",), "mean", whiten=30, whiten_power=0.5),
    ):
        dim, whiten = candidate.pca or candidate.whiten, candidate.whiten is not None
        own = fit_projection(x[:60], dim, whiten=whiten, power=candidate.whiten_power)
        np.testing.assert_allclose(projector.to(projector.widest(x), candidate), l2_normalize(own(x)), atol=2e-5)


def test_values_are_those_of_scikit_learn(rng):
    x, groups = l2_normalize(rng.normal(size=(40, 5)).astype(np.float32)), rng.integers(0, 6, 30)
    values = judged_values(x, Truth.of_groups(groups))["mAP"]
    same = np.append(groups, np.full(10, -1)) == groups[:, None]  # ten more, that are wrong for all
    for at in np.flatnonzero(same.sum(axis=1) > 1):
        others = np.arange(40) != at
        assert values[at] == pytest.approx(average_precision_score(same[at][others], (x @ x[at])[others]), abs=1e-6)


def test_values_are_the_same_block_by_block(rng, monkeypatch):
    x, truth = l2_normalize(rng.normal(size=(40, 5)).astype(np.float32)), Truth.of_groups(rng.integers(0, 6, 30))
    at_once, again = judged_values(x, truth), found_again(x[:30], x[10:])
    monkeypatch.setattr(scoring, "BLOCK", 7)
    for name, values in judged_values(x, truth).items():
        np.testing.assert_allclose(values, at_once[name], atol=1e-12)
    np.testing.assert_allclose(found_again(x[:30], x[10:]), again)


def test_what_is_right_beyond_a_piece_of_a_label_is_no_answer(rng):
    x, groups = l2_normalize(rng.normal(size=(24, 4)).astype(np.float32)), np.repeat([0, 1], 12)
    pieces = np.arange(24) // 4
    values = judged_values(x, Truth.of_groups(groups).within(pieces))["mAP"]
    for at in range(24):
        asked = (groups != groups[at]) | (pieces == pieces[at])
        asked[at] = False
        right = pieces[asked] == pieces[at]
        assert values[at] == pytest.approx(average_precision_score(right, (x @ x[at])[asked]), abs=1e-6)


@given(st.lists(st.integers(0, 30), min_size=20, max_size=120), st.integers(0, 300))
def test_a_split_is_a_partition_of_which_no_two_folds_share_a_group(numbers, n_more):
    groups = np.unique(numbers, return_inverse=True)[1]
    n = len(groups) + n_more
    try:
        parts = split(Truth.of_groups(groups), n)
    except UsageError:
        return
    rows = np.concatenate([parts.fit, parts.judged, parts.beside])
    assert sorted(rows.tolist()) == list(range(n)) and len(parts.truth) == len(parts.judged)
    folds = folds_of(parts.truth.groups)
    assert 2 <= len(np.unique(folds)) <= 5
    for group in np.unique(parts.truth.groups):
        assert len(np.unique(folds[parts.truth.groups == group])) == 1
    if parts.whole:
        assert (parts.truth.groups == groups[parts.judged]).all()
    # an answer is right, wrong or left out, and what is left out is right in the end
    beyond = parts.truth.left_out & ~np.eye(len(parts.judged), dtype=bool)
    assert not (parts.truth.relevant & parts.truth.left_out).any()
    same = groups[parts.judged][:, None] == groups[parts.judged]
    assert ((parts.truth.relevant | beyond) == (same & ~np.eye(len(same), dtype=bool))).all()


def test_a_clear_gain_is_taken_and_luck_told_apart(rng):
    groups, gains, lucky = np.repeat(np.arange(15), 2), [], []
    for _ in range(100):
        values = rng.random((200, 30))
        choice = choose(values, groups, 0)
        gains.append(choice.gain)
        assert choice.taken == (choice.best if choice.gain > 0 else 0)
        lucky.append(values[choice.best].mean() - values[0].mean())
    assert abs(np.mean(gains)) < 3 * np.std(gains) / 10  # cross-validation is not deceived
    assert np.mean(lucky) > 0.1  # where the best of many looks much better by luck alone
    values[7] += 0.8
    assert choose(values, groups, 0).taken == 7


def test_a_gain_that_all_share_beats_a_larger_one_of_a_few(rng):
    values = rng.random((50, 40))
    values[3] = values[0] + 0.1
    values[4] = values[0]
    values[4, :5] += 1.0  # 0.125 on average
    assert choose(values, np.arange(40), 0).best == 3


def test_the_error_of_queries_that_are_alike_is_that_of_their_groups(rng):
    of_group = rng.normal(size=40)
    wide, alone = np.repeat(of_group, 5)[None], clustered_error(of_group[None], np.arange(40))
    assert clustered_error(wide, np.repeat(np.arange(40), 5)) == pytest.approx(alone)
    assert alone == pytest.approx(of_group.std(ddof=1) / np.sqrt(40))
    interval, of_all = bootstrapped(of_group), bootstrapped(wide[0], np.repeat(np.arange(40), 5))
    assert (interval.low, interval.high) == pytest.approx((of_all.low, of_all.high))


def test_layers_that_are_tried(vgg16, minilm):
    tried = candidate_layers(vgg16, ())
    assert "features.22" in tried and "features.29" in tried and len(tried) <= 11
    assert all(vgg16.layers()[int(name.split(".")[1])].type == "ReLU" for name in tried)
    assert candidate_layers(vgg16, ["relu5_3"]) == ["features.22", "features.29"]  # with the default
    assert len(candidate_layers(minilm, ())) == 7  # every hidden state


def test_the_command(drawn, tmp_path, capsys, monkeypatch):
    root, labels = drawn
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.csv").write_text("\n".join(["id,label", *(f"{i},{label}" for i, label in labels.items())]))
    with pytest.raises(SystemExit) as end:
        run(
            f"tune {root} --labels labels.csv --weights packaged --size 64 --json --heatmap h.png "
            "--layer features.22 --layer features.8 --pooling mean".split()
        )
    told = capsys.readouterr()
    assert end.value.code == 0, told.err
    data = json.loads(told.out)
    assert data["out"] == "best.json" and (tmp_path / "h.png").exists()
    assert data["heatmap"]["layers"] == ["features.8", "features.22"]
    assert data["heatmap"]["poolings"] == ["mean", "rmac"]  # the default's beside
    assert json.loads((tmp_path / "best.json").read_text()) == data["recipe"]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"nope": "a", "neither": "a"}, "none of the 2 labelled ids is in the source"),
        (lambda names: dict.fromkeys(names[:5], "a"), "all of the same label"),
        (lambda names: dict.fromkeys(names, "a"), "no answer is wrong"),
        (lambda names: {name: name for name in names}, "no two drawn items have the same label"),
    ],
)
def test_labels_that_tell_nothing_are_refused_before_the_pass(drawn, tmp_path, labels, told):
    root, known = drawn
    given = labels if isinstance(labels, dict) else labels(sorted(known))
    with pytest.raises(UsageError, match=told):
        es.tune(root, given, weights="packaged", size=64, out=tmp_path / "best.json")
    assert not list(tmp_path.iterdir())
