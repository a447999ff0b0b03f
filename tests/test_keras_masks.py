"""Padding that a Keras model masks is in no vector."""

import numpy as np
import pytest
import torch
from keras_models import L, keras

import embedsearch as es


def test_padding_that_keras_masks_changes_nothing():
    torch.manual_seed(0)
    model = keras.Sequential([
        keras.Input((None,), dtype="int32"), keras.layers.Embedding(10, 4, mask_zero=True, name="emb"),
        keras.layers.LSTM(5, return_sequences=True, name="lstm"), keras.layers.Dense(3, name="dense"),
    ])  # fmt: skip
    for layer in ("emb", "lstm", "dense"):
        short, padded = es.Encoder(model, layer=layer).encode([[1, 2, 3], [1, 2, 3, 0, 0, 0]])
        np.testing.assert_allclose(padded, short, atol=1e-6)
        cut = keras.Model(model.inputs[0], model.get_layer(layer).output)
        real = cut(np.array([[1, 2, 3, 0, 0, 0]])).detach().numpy()[0, :3].mean(axis=0)
        np.testing.assert_allclose(padded, real / np.linalg.norm(real), atol=1e-6)


class Reversed(L.Layer):
    """Says nothing of masks, so Keras lets them end here."""

    def call(self, x):
        return keras.ops.flip(x, 1)


class ByName(L.Layer):
    supports_masking = True

    def call(self, *, x):
        return x * 2


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")
@pytest.mark.parametrize(
    "last",
    [
        lambda e: L.LSTM(5, return_sequences=True, name="last")(e),
        lambda e: Reversed(name="last")(e),
        lambda e: L.Conv1D(3, 3, padding="same", name="last")(e),
        lambda e: L.MultiHeadAttention(2, 3, name="last")(e, e),
        lambda e: L.Bidirectional(L.LSTM(2, return_sequences=True), name="last")(e),
        lambda e: L.TimeDistributed(L.Dense(3), name="last")(e),
        lambda e: L.Concatenate(name="last")([e, L.Dense(2)(e)]),
        lambda e: L.Permute((2, 1), name="last")(e),
        lambda e: ByName(name="last")(x=e),
        lambda e: L.LayerNormalization(name="last")(L.Dropout(0.5)(e)),
    ],
    ids=["lstm", "custom", "conv", "attention", "both ways", "distributed", "joined", "permuted", "by name", "norm"],
)
@pytest.mark.parametrize("layer", ["last", None])
def test_a_mask_counts_where_keras_itself_has_one(last, layer):
    torch.manual_seed(0)
    inputs = keras.Input((6,), dtype="int32")
    model = keras.Model(inputs, last(L.Embedding(10, 4, mask_zero=True)(inputs)))
    ids = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 0]])
    plain = model(ids)
    mask = getattr(plain, "_keras_mask", None)
    values = plain.detach().numpy()
    real = np.ones(values.shape[:2], bool) if mask is None else mask.numpy()
    expected = np.stack([row[own].mean(axis=0) for row, own in zip(values, real, strict=True)])
    np.testing.assert_allclose(es.Encoder(model, layer=layer, normalize=False).encode(ids), expected, atol=1e-5)
