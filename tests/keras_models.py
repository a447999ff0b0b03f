"""What the tests of Keras models share: small ones, and what Keras' own sub-models give."""

from __future__ import annotations

import numpy as np
import torch
from user_networks import snapshot, unchanged

from embedsearch.backbones.files.keras_file import import_keras

keras = import_keras()
L = keras.layers


def numbered(model, seed=3):
    """The model with weights that leave no layer at zero."""
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0.1, 0.5, w.shape) ** 2 if "variance" in w.path else rng.normal(0.1, 0.4, w.shape)
                       for w in model.weights])  # fmt: skip
    return model


def sequential():
    return numbered(keras.Sequential([
        L.Input((9, 9, 3)), L.Conv2D(4, 3, padding="same", activation="relu", name="conv1"),
        L.BatchNormalization(name="norm"), L.MaxPooling2D(name="pool"), L.Dropout(0.5, name="drop"),
        L.Conv2D(5, 3, name="conv2"), L.GlobalAveragePooling2D(name="gap"), L.Dense(6, name="dense"),
    ]))  # fmt: skip


def nested():
    x = L.Input((4,))
    inner = keras.Sequential([L.Input((4,)), L.Dense(5, name="i1", activation="tanh"), L.Dense(4, name="same")],
                             name="inner")  # fmt: skip
    other = keras.Sequential([L.Input((4,)), L.Dense(4, name="same"), L.Dense(3, name="i2")], name="other")
    return numbered(keras.Model(x, L.Dense(2, name="top")(other(inner(x)))))


def pooled(x):
    x = x.detach().cpu().numpy().astype(np.float32)
    x = x.reshape(len(x), -1, x.shape[-1]).mean(axis=1) if x.ndim > 2 else x
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def sub_model(model, output, x):
    """What Keras' own sub-model up to a layer gives."""
    with torch.no_grad():
        return pooled(keras.Model(model.inputs[0], output)(x, training=False))


def state(model):
    return {**snapshot(model), "trainable": [layer.trainable for layer in model._flatten_layers()]}


def as_it_was(model, before):
    assert [layer.trainable for layer in model._flatten_layers()] == before.pop("trainable")
    unchanged(model, before)
