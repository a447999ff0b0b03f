import json

import pytest

from embedsearch.config import Recipe, read_recipe
from embedsearch.errors import EmbedSearchError, UnknownNameError, UsageError
from embedsearch.registry import BACKBONES, INDEXES, POOLING, Registry
from embedsearch.types import Metric, Modality


def test_every_classification_network_of_torchvision_is_registered():
    import torchvision.models as models

    assert set(models.list_models(module=models)) <= set(BACKBONES)
    assert {"vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"} <= set(BACKBONES)


@pytest.mark.parametrize("registry", [BACKBONES, POOLING, INDEXES], ids=lambda registry: registry.kind)
def test_every_registered_name_imports(registry):
    for name in registry:
        assert callable(registry.get(name))


def test_an_unknown_name_says_what_is_near():
    with pytest.raises(UnknownNameError, match=r"did you mean .*'vgg16'"):
        BACKBONES.get("vgg61")
    with pytest.raises(UnknownNameError, match="valid: cls, crow, flatten, gem,"):
        POOLING.get("xyz")


def test_a_name_is_taken_once():
    registry = Registry("thing", "embedsearch.test")
    registry.add("a", "json:loads")
    assert registry.get("a") is json.loads
    assert list(registry) == ["a"] and "a" in registry and "b" not in registry
    with pytest.raises(UsageError, match="already registered"):
        registry.add("a", "json:dumps")


def test_a_recipe_survives_json():
    recipe = Recipe(Modality.IMAGE, Metric.COSINE, "vgg16", layers=("features.22",), pooling="gem", whiten=64, size=96)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fit": "stretch"}, "crop, pad, squash"),
        ({"metric": "hamming"}, "cosine, ip, l2"),
        ({"modality": "sound"}, "image, text, tensor, vector"),
        ({"pca": 8, "whiten": 8}, "give one"),
        ({"pca": 0}, "at least 1"),
        ({"gem_p": -1.0}, "positive"),
        ({"normalize": False}, "metric 'ip'"),
        ({"layer": "x"}, "'layer' is not known; valid: .*layers"),
        ({"precision": "float16"}, "float32, bfloat16"),
    ],
)
def test_a_wrong_recipe_field_is_named_with_the_valid_ones(fields, message):
    with pytest.raises(UsageError, match=message):
        Recipe.from_dict({"modality": "image", **fields})


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("scales", 1, "a list of numbers"),
        ("scales", ["1"], "a list of numbers"),
        ("layers", "hidden.1", "a list of names"),
        ("layer_weights", [True], "a list of numbers"),
        ("size", "96", "a whole number"),
        ("size", 96.5, "a whole number"),
        ("gem_p", "3", "a number"),
        ("flip", 1, "true or false"),
        ("pooling", 3, "a text"),
    ],
)
def test_a_recipe_field_of_a_wrong_type_is_named(field, value, told):
    with pytest.raises(UsageError, match=rf"recipe field '{field}' is .*; it must be {told}"):
        Recipe.from_dict({"modality": "image", field: value})


def test_what_an_earlier_version_left_out_of_a_stored_recipe():
    assert Recipe.from_stored({"modality": "text"}).long_texts == "cut", "it cut long texts"
    assert Recipe.from_stored({"modality": "text", "long_texts": "chunk"}).long_texts == "chunk"
    assert Recipe.from_stored({"modality": "image"}) == Recipe(Modality.IMAGE)


def test_every_field_of_a_recipe_comes_back_from_json():
    recipe = Recipe(
        Modality.IMAGE, backbone="vgg16", layers=("a", "b"), layer_weights=(1.0, 0.5), scales=(1.0, 0.7), flip=True,
        combine="mean", preprocess="unit", channels="last", pca=3,
    )  # fmt: skip
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_where_weights_were_asked_from_is_no_difference_but_their_hash_is():
    one = Recipe(Modality.TEXT, weights="auto", weights_sha256="a")
    assert one.differences(Recipe(Modality.TEXT, weights="/elsewhere", weights_sha256="a")) == []
    assert one.differences(Recipe(Modality.TEXT, weights_sha256="b")) == ["weights_sha256: 'b', now 'a'"]


@pytest.mark.parametrize("content", ["not json", "[1]", None])
def test_a_recipe_file_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "recipe.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=r"recipe\.json"):
        read_recipe(path)


def test_the_public_names():
    import embedsearch as es

    assert es.__all__ == sorted(es.__all__)
    for name in es.__all__:
        assert getattr(es, name) is not None
    with pytest.raises(AttributeError):
        es.nothing  # noqa: B018


def test_every_error_is_ours_and_has_a_place_in_the_tree():
    from embedsearch import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert all(issubclass(kind, EmbedSearchError) for kind in kinds)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in kinds)


def test_numbers_of_numpy_are_taken_as_pythons():
    import numpy as np

    recipe = Recipe(
        Modality.IMAGE, layers=("a", "b"), layer_weights=np.array([1, 2]), scales=(np.float32(1), 0.5),
        size=np.int64(64), gem_p=np.float32(3), flip=np.bool_(True), pca=np.int32(2),
    )  # fmt: skip
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert (recipe.size, recipe.layer_weights, recipe.flip) == (64, (1, 2), True)
    assert Recipe.from_dict({"modality": "image", "scales": np.array([1, 0.7])}).scales == (1.0, 0.7)
