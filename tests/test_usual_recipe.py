"""What a build takes where no pooling is named, and how far whitening goes."""

import numpy as np
import pytest
from builds import VGG

import embedsearch as es
from embedsearch.engine.building import build_with_report
from embedsearch.errors import UsageError
from embedsearch.vectors import l2_normalize

UNNAMED = {name: value for name, value in VGG.items() if name != "pooling"}


def test_a_build_pools_maps_of_vgg_by_rmac(folder, tmp_path):
    index = es.build(folder, tmp_path / "index", **UNNAMED)
    assert index.info()["recipe"]["pooling"] == "rmac"
    encoder = es.Encoder(
        "vgg16", layer="features.22", pooling="rmac", weights="packaged", size=index.encoder.recipe.size
    )
    paths = [folder / item_id for item_id in index.ids]
    np.testing.assert_allclose(index.vectors(index.ids), encoder.encode(paths), atol=1e-2)
    assert index.search(paths[2], k=1)[0].score == pytest.approx(1, abs=1e-4)


def test_texts_and_what_is_no_map_are_pooled_by_the_mean():
    assert es.Encoder("minilm", pooling="auto").recipe.pooling == "mean"
    assert es.Encoder("vgg16", pooling="auto", weights="packaged").recipe.pooling == "rmac"
    several = es.Encoder("vgg16", layer=["relu4_2", "relu5_3"], pooling="auto", weights="packaged")
    assert several.recipe.pooling == "rmac"
    assert es.Encoder("vgg16", layer="fc6", pooling="auto", weights="packaged").recipe.pooling == "mean"


def test_an_index_that_was_built_with_the_mean_stays_with_it(folder, tmp_path):
    es.build(folder, tmp_path / "index", **UNNAMED, pooling="mean")
    assert build_with_report(folder, tmp_path / "index", **UNNAMED).up_to_date
    report = build_with_report(folder, tmp_path / "index", **UNNAMED, restart=True)
    assert not report.up_to_date and es.open(tmp_path / "index").info()["recipe"]["pooling"] == "rmac"


def test_half_whitening_divides_by_the_roots_of_the_shrunk_deviations(rng, tmp_path):
    from sklearn.covariance import LedoitWolf

    x = (rng.normal(size=(60, 8)) * np.geomspace(1, 0.1, 8) + 1).astype(np.float32)
    report = build_with_report(x, tmp_path / "index", whiten=5, whiten_power=0.5)
    assert report.projection.startswith("fitted on 60 vectors of 8 dimensions, shrunk by 0.")
    unit = l2_normalize(x).astype(np.float64)
    model = LedoitWolf().fit(unit)
    values, vectors = np.linalg.eigh(model.covariance_)
    expected = (unit - unit.mean(axis=0)) @ vectors[:, ::-1][:, :5] / values[::-1][:5] ** 0.25
    expected = l2_normalize(expected.astype(np.float32))
    index = es.open(tmp_path / "index")
    ours = index.vectors(index.ids)
    np.testing.assert_allclose(ours @ ours.T, expected @ expected.T, atol=1e-4)
    assert index.info()["projection"] == report.projection
    assert index.info()["recipe"]["whiten_power"] == 0.5


@pytest.mark.parametrize(
    "fields", [{"whiten": 4, "whiten_power": 0}, {"whiten": 4, "whiten_power": 1.5}, {"whiten_power": 0.5}]
)
def test_a_power_that_means_nothing_is_told(rng, tmp_path, fields):
    with pytest.raises(UsageError, match="whiten_power"):
        es.build(rng.normal(size=(20, 8)).astype(np.float32), tmp_path / "index", **fields)
