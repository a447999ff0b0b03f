"""Keras models: every layer equals that of Keras' own sub-model, from memory and from a file."""

import numpy as np
import pytest
import torch
from keras_models import L, as_it_was, keras, nested, numbered, pooled, sequential, state, sub_model
from user_networks import arrays, equal

import embedsearch as es
from embedsearch.backbones.packaged import packaged_vgg16
from embedsearch.errors import UnknownNameError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@keras.saving.register_keras_serializable("tests")
class Counting(L.Layer):
    """Counts its calls, which are those of numbers and not those of Keras finding out shapes."""

    calls = 0

    def call(self, x):
        if not isinstance(x, keras.KerasTensor) and keras.ops.convert_to_tensor(x).device.type != "meta":
            Counting.calls += 1
        return x * 1.0


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.low, self.drop, self.high = L.Dense(5, name="low"), L.Dropout(0.5, name="drop"), L.Dense(3, name="high")

    def call(self, x, training=None):
        return self.high(self.drop(self.low(self.low(x)[..., :4]), training=training))


def branching():
    x = L.Input((9, 9, 3))
    a, b = L.Conv2D(4, 1, name="a")(x), L.Conv2D(4, 3, padding="same", name="b")(x)
    added = L.Add(name="add")([a, L.ReLU(name="relu")(b)])
    y = L.Dense(3, name="top")(L.Flatten(name="flat")(L.Concatenate(name="cat")([added, a])))
    return numbered(keras.Model(x, [y, a]))


# ---- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [sequential, branching])
@pytest.mark.parametrize("kept", ["memory", ".keras", ".h5"])
def test_every_layer_equals_keras_own_sub_model(make, kept, tmp_path):
    model, items = make(), arrays(5, (9, 9, 3))
    x = np.stack(items)
    model.layers[2].trainable = False
    before, backbone = state(model), model
    if kept != "memory":
        model.save(tmp_path / f"m{kept}")
        backbone = f"keras:{tmp_path / f'm{kept}'}"
    names = [layer.name for layer in model.layers if not isinstance(layer, L.InputLayer)]
    expected = [sub_model(model, model.get_layer(name).output, x) for name in names]
    for name, theirs in zip(names, expected, strict=True):
        equal(es.Encoder(backbone, layer=name, batch_size=2).encode(items), theirs)
    together = es.Encoder(backbone, layer=names).encode(items)
    equal(together, np.concatenate(expected, axis=1) / np.sqrt(len(names)))
    equal(es.Encoder(backbone).encode(items), sub_model(model, model.outputs[0], x))
    as_it_was(model, before)
    if kept == "memory":
        model.compile("sgd", "mse")
        model.fit(x, model.predict(x, verbose=0), verbose=0)


def test_layers_of_nested_models():
    model, items = nested(), arrays(4, (4,))
    x = np.stack(items)
    inner, other = model.get_layer("inner"), model.get_layer("other")
    first = inner(x, training=False)
    for name, theirs in {
        "inner.i1": inner.get_layer("i1")(x), "i1": inner.get_layer("i1")(x), "inner": first, "inner.same": first,
        "other.same": other.get_layer("same")(first), "other.i2": other(first), "top": model(x), "output": model(x),
    }.items():  # fmt: skip
        equal(es.Encoder(model, layer=name).encode(items), pooled(theirs))
    with pytest.raises(UsageError, match=r"'same' is in several models; name one: inner\.same, other\.same"):
        es.Encoder(model, layer="same")
    with pytest.raises(UnknownNameError, match=r"'inner.i2' is not known; did you mean"):
        es.Encoder(model, layer="inner.i2")
    with pytest.raises(UnknownNameError, match="did you mean 'top'"):
        es.Encoder(model, layer="tob")


def test_a_shared_layer_has_a_name_for_each_call_also_across_models():
    x, y = L.Input((4,)), L.Input((4,))
    shared = L.Dense(4, name="shared", activation="tanh")
    inner = keras.Model(x, shared(x), name="inner")
    model = numbered(keras.Model(y, L.Dense(2, name="top")(inner(shared(L.ReLU(name="relu")(shared(y)))))))
    items = arrays(3, (4,))
    first = shared(np.stack(items))
    second = shared(keras.ops.relu(first))
    calls = {"shared@1": first, "inner.shared@2": second, "shared": shared(second), "inner.shared": shared(second)}
    for name, theirs in calls.items():
        equal(es.Encoder(model, layer=name).encode(items), pooled(theirs))
    with pytest.raises(UsageError, match="called 3 times in a pass; @9 is not valid"):
        es.Encoder(model, layer="shared@9").encode(items)


def test_two_inputs_are_tuples_or_named():
    a, b = L.Input((4,), name="a"), L.Input((3,), name="b")
    joined = L.Concatenate(name="cat")([L.Dense(2, name="da")(a), L.Dense(2, name="db")(b)])
    x, y = np.stack(arrays(3, (4,))), np.stack(arrays(3, (3,), seed=1))
    for inputs in ([a, b], {"b": b, "a": a}):
        model = numbered(keras.Model(inputs, L.Dense(2, name="top")(joined)))
        given = [x, y] if isinstance(inputs, list) else {"a": x, "b": y}
        theirs = pooled(keras.Model(inputs, joined)(given))
        named = [{"b": v, "a": u} for u, v in zip(x, y, strict=True)]
        equal(es.Encoder(model, layer="cat").encode(named), theirs)
        assert es.Encoder(model, layer="cat").dim == 4
    equal(es.Encoder(keras.Model([a, b], joined), layer="cat").encode(list(zip(x, y, strict=True))), theirs)


def test_a_subclassed_model_that_was_called_once():
    model, items = Subclassed(), arrays(4, (4,))
    with pytest.raises(UsageError, match="has no weights yet; call it once on a batch, or build it"):
        es.Encoder(model)
    x = np.stack(items)
    model(x)
    numbered(model)
    first = model.low(x)
    second = model.low(first[..., :4])
    calls = {"low@1": first, "low": second, "drop": second, "high": model.high(second), "output": model.high(second)}
    for name, theirs in calls.items():
        equal(es.Encoder(model, layer=name).encode(items), pooled(theirs))
    for unbuilt in (keras.Sequential([L.Dense(3)]), L.Dense(3)):
        with pytest.raises(UsageError, match="has no weights yet"):
            es.Encoder(unbuilt)


def test_layers_over_sequences():
    model = numbered(keras.Sequential([
        L.Input((None,), dtype="int32"), L.Embedding(9, 4, name="table"), L.LSTM(5, return_sequences=True, name="lstm"),
        L.Conv1D(3, 1, name="conv"), L.Bidirectional(L.GRU(3), name="two_ways"),
    ]))  # fmt: skip
    items = [[1, 2, 3], np.array([8, 1]), [4, 5, 6]]
    for name in ("table", "lstm", "conv", "two_ways"):
        ours = es.Encoder(model, layer=name).encode(items)
        for item, vector in zip(items, ours, strict=True):
            equal(vector[None], sub_model(model, model.get_layer(name).output, np.array([item])))


def test_channels_first_is_seen_also_in_layers_that_do_not_tell():
    x = L.Input((3, 8, 8))
    conv = L.Conv2D(5, 3, data_format="channels_first", name="conv")(x)
    relu = L.ReLU(name="relu")(L.BatchNormalization(axis=1, name="norm")(conv))
    line = L.Conv1D(4, 1, data_format="channels_first", name="line")(L.Reshape((5, 36))(relu))
    model, items = numbered(keras.Model(x, line)), arrays(3)
    for name in ("conv", "norm", "relu", "line"):
        with torch.no_grad():
            out = keras.Model(x, model.get_layer(name).output)(np.stack(items))
        equal(es.Encoder(model, layer=name).encode(items), pooled(out.movedim(1, -1)))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    ours = es.Encoder(model, layer="relu", modality="image", preprocess="unit").encode([pixels])
    equal(ours, es.Encoder(model, layer="relu").encode([pixels.transpose(2, 0, 1) / 255]))


def test_nothing_above_the_layer_is_computed(tmp_path):
    x = L.Input((4,))
    model = keras.Model(x, Counting(name="c2")(L.Dense(3, name="b")(Counting(name="c1")(L.Dense(4, name="a")(x)))))
    model.save(tmp_path / "m.keras")
    for backbone in (model, f"keras:{tmp_path / 'm.keras'}"):
        for layer, n in {"a": 0, "c1": 1, "b": 1, "c2": 2}.items():
            encoder = es.Encoder(backbone, layer=layer)
            Counting.calls = 0
            encoder.encode(arrays(2, (4,)))
            assert Counting.calls == n


# ---- pictures --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras_vgg16(tmp_path_factory):
    model = keras.applications.VGG16(weights=None, include_top=False)
    weights = packaged_vgg16().state
    features = [i for i in range(31) if f"features.{i}.weight" in weights]
    for layer, i in zip([layer for layer in model.layers if isinstance(layer, L.Conv2D)], features, strict=True):
        kernel = weights[f"features.{i}.weight"].permute(2, 3, 1, 0)
        layer.set_weights([kernel.numpy(), weights[f"features.{i}.bias"].numpy()])
    return model


@pytest.mark.parametrize("kept", ["memory", "file"])
def test_keras_vgg16_equals_torchvisions(keras_vgg16, kept, tmp_path, emoji):
    paths = emoji["google"][:3]
    backbone = keras_vgg16
    if kept == "file":
        keras_vgg16.save(tmp_path / "vgg.keras")
        backbone = f"keras:{tmp_path / 'vgg.keras'}"
    ours = es.Encoder(backbone, layer=["block5_conv3", "block3_pool"], modality="image", preprocess="torch", size=64)
    theirs = es.Encoder("vgg16", weights="packaged", layer=["block5_conv3", "features.16"], size=64)
    np.testing.assert_allclose(ours.encode(paths), theirs.encode(paths), atol=1e-4)
    assert ours.recipe.modality == "image" and ours.recipe.size == 64


def test_pixels_are_scaled_as_keras_says(emoji):
    x = L.Input((16, 16, 3))
    plain = numbered(keras.Model(x, L.Conv2D(4, 3, name="conv")(x)))
    with pytest.raises(UsageError, match=r"must be told how it wants the pixels.*caffe.*tf"):
        es.Encoder(plain, modality="image")
    scaling = keras.Model(x, plain.get_layer("conv")(L.Rescaling(1 / 127.5, offset=-1, name="scale")(x)))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for mode in ("caffe", "tf", "torch"):
        scaled = keras.applications.imagenet_utils.preprocess_input(pixels[None].astype(np.float32), mode=mode)
        encoder = es.Encoder(plain, modality="image", preprocess=mode)
        assert encoder.recipe.size == 16
        equal(encoder.encode([pixels]), sub_model(plain, plain.outputs[0], scaled))
    ours = es.Encoder(scaling, layer="conv", modality="image").encode([pixels, emoji["google"][0]])
    equal(ours, es.Encoder(plain, modality="image", preprocess="tf").encode([pixels, emoji["google"][0]]))
