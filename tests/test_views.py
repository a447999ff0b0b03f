"""Test-time averaging over scales and mirror images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import embedsearch as es
from embedsearch.errors import UsageError

VGG = {"weights": "packaged", "size": 64}


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_flip_is_the_mean_with_the_mirror_image(emoji):
    path = emoji["google"][17]
    picture = Image.alpha_composite(
        Image.new("RGBA", (64, 64), "white"), Image.open(path).convert("RGBA").resize((64, 64))
    ).convert("RGB")
    mirrored = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    plain, flipped = es.Encoder("vgg16", **VGG), es.Encoder("vgg16", flip=True, **VGG)
    both = plain.encode([picture, mirrored])
    assert both[0] @ both[1] < 0.999, "the picture is not its own mirror image"
    np.testing.assert_allclose(flipped.encode_one(picture), unit(both.mean(axis=0)), atol=1e-5)
    np.testing.assert_allclose(flipped.encode_one(picture), flipped.encode_one(mirrored), atol=1e-5)


def test_scales_are_the_mean_over_encoders_of_those_sizes(emoji):
    paths = emoji["google"][:5]
    alone = [es.Encoder("vgg16", weights="packaged", size=size).encode(paths) for size in (64, 45, 96)]
    encoder = es.Encoder("vgg16", scales=[1, 0.7, 1.5], batch_size=2, **VGG)
    np.testing.assert_allclose(encoder.encode(paths), unit(np.mean(alone, axis=0)), atol=1e-5)
    raw = es.Encoder("vgg16", scales=[1, 0.7, 1.5], normalize=False, **VGG).encode(paths)
    np.testing.assert_allclose(raw, np.mean(alone, axis=0), atol=1e-5)


def test_scales_and_flip_go_with_several_layers_and_grids(emoji):
    encoder = es.Encoder(
        "vgg16", layer=["relu3_3", "relu4_3"], pooling="grid2x2", scales=(0.5, 1.0), flip=True, batch_size=3, **VGG
    )
    x = encoder.encode(emoji["google"][:7])
    assert x.shape == (7, 4 * (256 + 512)) == (7, encoder.dim)
    np.testing.assert_allclose(encoder.encode_one(emoji["google"][6]), x[6], atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "options", "message"),
    [
        ("vgg16", {"scales": [1, 0.1]}, "at 64 px cannot read pictures of 6 px"),
        ("vgg16", {"scales": []}, "at least one"),
        ("vgg16", {"scales": [0.0]}, "positive"),
        ("minilm", {"flip": True}, "flip is for images; minilm reads texts"),
        ("minilm", {"scales": [1, 2]}, "scales is for images"),
        ("minilm", {"size": 64}, "size is for images"),
        ("vgg16", {"max_tokens": 3}, "max_tokens is for texts"),
        ("vgg16", {"long_texts": "cut"}, "long_texts is for texts"),
    ],
)
def test_what_does_not_go_together_is_told(backbone, options, message):
    with pytest.raises(UsageError, match=message):
        es.Encoder(backbone, **({"weights": "packaged", "size": 64} if backbone == "vgg16" else {}) | options)


def test_a_pooling_that_depends_on_the_size_is_refused_with_scales(emoji):
    with pytest.raises(UsageError, match="does not depend on the size"):
        es.Encoder("vgg16", pooling="flatten", scales=[1, 2], **VGG).encode(emoji["google"][:1])


@settings(max_examples=8)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(1, 4))
def test_order_batch_size_and_neighbours_change_nothing(numbers, batch_size):
    alone = [_small.encode_one(_picture(number)) for number in numbers]
    _small._network._batch_size = batch_size
    np.testing.assert_allclose(_small.encode([_picture(number) for number in numbers]), alone, atol=1e-5)


def _picture(number):
    """Of any shape; the encoder crops it."""
    return np.random.default_rng(number).integers(0, 256, (50 + 7 * number, 64, 3), dtype=np.uint8)


_small = es.Encoder("vgg16", weights="packaged", size=48, layer=["relu2_2", "relu3_1"], pooling="rmac", flip=True)
