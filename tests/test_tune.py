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
from embedsearch.pipeline.tune.candidates import Candidate, candidate_layers
from embedsearch.pipeline.tune.choosing import choose, clustered_error
from embedsearch.pipeline.tune.sample import Truth
from embedsearch.pipeline.tune.scoring import Projector, judged_values
from embedsearch.pipeline.tune.splits import split
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
    for scored in (tuned.default, tuned.chosen):
        if scored.candidate.projection:
            continue
        encoder = es.Encoder(
            "vgg16", weights="packaged", size=64, layer=scored.candidate.layers, pooling=scored.candidate.pooling
        )
        for name, measured in (("choose", scored.choosing), ("report", scored.report["mAP"])):
            ids = tuned.parts[name]
            x = encoder.encode([root / item_id for item_id in ids])
            codes = np.array([labels[item_id] for item_id in ids])
            found = []
            for at in range(len(ids)):
                others = np.arange(len(ids)) != at
                found.append(average_precision_score(codes[others] == codes[at], (x @ x[at])[others]))
            assert measured.mean == pytest.approx(np.mean(found), abs=1e-3)


def test_parts_share_no_item_and_no_label(tuned, drawn):
    _, labels = drawn
    ids = [set(part) for part in tuned.parts.values()]
    codes = [{labels[item_id] for item_id in part} for part in ids]
    assert tuned.by_groups and sum(map(len, ids)) == len(labels)
    for a in range(3):
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
    x, groups = l2_normalize(rng.normal(size=(30, 5)).astype(np.float32)), rng.integers(0, 6, 30)
    same = groups[:, None] == groups
    np.fill_diagonal(same, False)
    values = judged_values(x, Truth(same, groups))["mAP"]
    for at in np.flatnonzero(same.any(axis=1)):
        others = np.arange(30) != at
        assert values[at] == pytest.approx(average_precision_score(same[at][others], (x @ x[at])[others]), abs=1e-6)


@given(st.lists(st.integers(0, 30), min_size=60, max_size=200), st.integers(0, 100))
def test_a_split_is_a_partition_that_leaves_groups_whole_where_it_says_so(numbers, n_more):
    _, groups = np.unique(numbers, return_inverse=True)
    same = groups[:, None] == groups
    np.fill_diagonal(same, False)
    n = len(groups) + n_more
    try:
        parts = split(Truth(same, groups), n)
    except UsageError:
        return
    rows = np.concatenate([parts.fit, parts.choose, parts.report])
    assert sorted(rows.tolist()) == list(range(n))
    if parts.by_groups:
        assert not set(groups[parts.choose]) & set(groups[parts.report])


def test_luck_is_not_chosen_and_a_clear_gain_is(rng):
    groups = np.repeat(np.arange(15), 2)
    taken = 0
    for _ in range(100):
        values = rng.random((200, 30))
        taken += choose(values, groups, 0).taken != 0
    assert taken <= 25  # one standard error is passed by luck in 16 of 100
    values[7] += 0.8
    assert choose(values, groups, 0).taken == 7


def test_the_error_of_queries_that_are_alike_is_that_of_their_groups(rng):
    of_group = rng.normal(size=40)
    wide, alone = np.repeat(of_group, 5), clustered_error(of_group, np.arange(40))
    assert clustered_error(wide, np.repeat(np.arange(40), 5)) == pytest.approx(alone)
    assert alone == pytest.approx(of_group.std(ddof=1) / np.sqrt(40))


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
