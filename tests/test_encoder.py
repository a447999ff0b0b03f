import numpy as np
import pytest
import torch
from PIL import Image

import embedsearch as es
from embedsearch.backbones.packaged import minilm_folder
from embedsearch.errors import ItemError, UnknownNameError, UsageError

TEXTS = [
    "A man is eating.",
    "x",
    "The quick brown fox jumps over the lazy dog, twice a day. " * 12,
    "Grüße",
    "a b",
    "word " * 400,
]


def test_minilm_mean_pooled_is_sentence_transformers_encode(text_encoder):
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(minilm_folder()), device="cpu").encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(text_encoder.encode(TEXTS[:-1]), theirs[:-1], atol=1e-5)
    # which cuts what is longer than 256 tokens
    np.testing.assert_allclose(es.Encoder("minilm", long_texts="cut").encode(TEXTS), theirs, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "max", "gem", "cls"])
def test_a_text_has_the_same_vector_alone_and_in_any_batch(pooling, text_encoder):
    encoder = es.Encoder("minilm", pooling=pooling, batch_size=4)
    together = encoder.encode(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(encoder.encode_one(text), vector, atol=1e-5)
    np.testing.assert_allclose(
        es.Encoder("minilm", pooling=pooling, batch_size=1).encode(TEXTS[::-1])[::-1], together, atol=1e-5
    )


@pytest.mark.parametrize("pooling", ["mean", "max", "gem"])
def test_a_picture_has_the_same_vector_alone_and_in_any_batch(pooling, emoji):
    encoder = es.Encoder("vgg16", weights="packaged", size=64, pooling=pooling, batch_size=5)
    paths = emoji["google"][:12]
    together = encoder.encode(paths)
    for path, vector in zip(paths, together, strict=True):
        np.testing.assert_allclose(encoder.encode_one(path), vector, atol=1e-5)


def test_a_vector_is_the_pooled_and_normalised_plain_forward_pass(vgg16, emoji):
    encoder = es.Encoder("vgg16", weights="packaged", size=64)
    image = Image.open(emoji["google"][3]).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    pixels = np.asarray(Image.alpha_composite(white, image).convert("RGB"))
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        1, 3, 1, 1
    )
    with torch.no_grad():
        plain = vgg16._module.features[:23](x).mean(dim=(2, 3))[0].numpy()
    np.testing.assert_allclose(encoder.encode_one(emoji["google"][3]), plain / np.linalg.norm(plain), atol=1e-5)
    raw = encoder.encode_one(emoji["google"][3], normalize=False)
    np.testing.assert_allclose(raw, plain, atol=1e-5 * plain.max())


def test_every_form_of_a_picture_gives_the_same_vector(image_encoder, emoji):
    path = emoji["twitter"][10]
    image = Image.open(path)
    forms = [path, str(path), path.read_bytes(), image, np.asarray(image), np.asarray(image) / 255.0]
    vectors = image_encoder.encode(forms)
    np.testing.assert_allclose(vectors, np.repeat(vectors[:1], len(forms), axis=0), atol=1e-6)


def test_several_layers_are_concatenated_after_l2_each(emoji):
    paths = emoji["google"][:3]
    one, two, both = (
        es.Encoder("vgg16", weights="packaged", size=64, layer=layer).encode(paths)
        for layer in ("features.15", "features.22", ["features.15", "features.22"])
    )
    assert both.shape == (3, 256 + 512)
    np.testing.assert_allclose(both, np.concatenate([one, two], axis=1) / np.sqrt(2), atol=1e-6)


def test_dim_is_known_before_anything_is_encoded(text_encoder, image_encoder):
    assert (text_encoder.dim, image_encoder.dim) == (384, 512)
    assert text_encoder.encode([]).shape == (0, 384)
    assert es.Encoder("vgg16", weights="packaged", size=64, layer=["features.8", "features.29"]).dim == 128 + 512


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("/nothing/here.png", r"input 1 \(/nothing/here.png\): the file does not exist"),
        (b"", "empty file"),
        (np.zeros((2, 2, 7), np.uint8), "H x W x 3"),
        (np.full((2, 2, 3), 2.0), "0..1"),
        (np.zeros((2, 2, 3), np.int64), "uint8"),
        ("/", "it is a folder"),
    ],
)
def test_the_input_that_cannot_be_read_is_named(item, reason, image_encoder, emoji):
    with pytest.raises(ItemError, match=reason):
        image_encoder.encode([emoji["google"][0], item])


def test_a_pil_image_that_turns_out_damaged_is_told(image_encoder):
    import io

    import pictures

    for image, reason in (
        (Image.open(io.BytesIO(pictures.truncated())), "truncated"),
        (Image.new("RGB", (0, 5)), "zero size"),
    ):
        with pytest.raises(ItemError, match=reason):
            image_encoder.encode([image])


def test_texts_that_are_none(text_encoder):
    for item, reason in (("  ", "empty text"), (5, "not int"), (b"\xff", "not UTF-8"), ("a\ud800", "surrogate")):
        with pytest.raises(ItemError, match=reason):
            text_encoder.encode(["fine", item])
    assert text_encoder.encode([b"fine"]).shape == (1, 384)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "avg"}, "pooling 'avg' is not known"),
        ({"layer": "features.99"}, "did you mean"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"fit": "zoom"}, "crop, pad, squash"),
        ({"precision": "int4"}, "float32, bfloat16, int8"),
        ({"gem_p": 0.0}, "positive"),
    ],
)
def test_wrong_options_are_told(options, message):
    with pytest.raises(UsageError, match=message):
        es.Encoder("vgg16", weights="packaged", size=64, **options)


def test_one_string_is_not_a_list_of_letters(text_encoder):
    with pytest.raises(UsageError, match="encode_one"):
        text_encoder.encode("a text")
    with pytest.raises(UnknownNameError):
        es.Encoder("vgg")


def test_bfloat16_vectors_are_near(emoji, image_encoder):
    rough = es.Encoder("vgg16", pooling="auto", weights="packaged", size=64, precision="bfloat16").encode(
        emoji["google"][:8]
    )
    assert ((rough * image_encoder.encode(emoji["google"][:8])).sum(axis=1) > 0.999).all()
