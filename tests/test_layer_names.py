"""Layers by the names people know, and several of them at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import TEXTS, close

import embedsearch as es
from embedsearch.backbones import open_backbone
from embedsearch.backbones.packaged import minilm_folder
from embedsearch.errors import UnknownNameError, UsageError
from embedsearch.registry import BACKBONES

VGG16 = {
    "conv1_1": "features.0", "relu1_1": "features.1", "block1_conv1": "features.1", "pool1": "features.4",
    "conv4_3": "features.21", "relu4_3": "features.22", "block4_conv3": "features.22", "pool4": "features.23",
    "conv5_3": "features.28", "relu5_3": "features.29", "block5_conv3": "features.29", "pool5": "features.30",
    "block5_pool": "features.30", "fc6": "classifier.0", "relu6": "classifier.1", "fc1": "classifier.1",
    "fc7": "classifier.3", "relu7": "classifier.4", "fc2": "classifier.4", "fc8": "classifier.6",
}  # fmt: skip
# one block of each stage, and the blocks that torchvision's and the paper's counting could confuse
OTHERS = {
    ("vgg19", "relu5_4"): "features.35",
    ("vgg19", "block3_conv4"): "features.17",
    ("vgg11", "conv3_2"): "features.8",
    ("vgg16_bn", "conv2_1"): "features.7",
    ("vgg16_bn", "bn2_1"): "features.8",
    ("vgg16_bn", "relu2_1"): "features.9",
    ("vgg16_bn", "relu5_3"): "features.42",
    ("alexnet", "conv5"): "features.10",
    ("alexnet", "relu5"): "features.11",
    ("alexnet", "pool5"): "features.12",
    ("alexnet", "fc6"): "classifier.1",
    ("alexnet", "fc7"): "classifier.4",
    ("resnet50", "conv4_x"): "layer3",
    ("resnet50", "conv4_block6_out"): "layer3.5",
    ("resnet50", "conv1_relu"): "relu",
    ("resnet50", "conv1"): "conv1",
    ("vit_b_16", "hidden.0"): "encoder.dropout",
    ("vit_b_16", "hidden.-1"): "encoder.layers.encoder_layer_11",
}


def described(name):
    infos, _ = BACKBONES.get(name).describe(name, weights="auto", size=None)
    return {alias: info.name for info in infos for alias in info.aliases}


@pytest.mark.parametrize(("alias", "name"), VGG16.items())
def test_vgg16_by_the_papers_and_keras_names(alias, name, vgg16):
    assert vgg16.resolve_layer(alias) == vgg16.resolve_layer(name) == name
    assert described("vgg16")[alias] == name


@pytest.mark.parametrize(("network", "alias"), OTHERS)
def test_other_networks_by_the_names_of_their_papers(network, alias):
    names = {info.name for info in BACKBONES.get(network).describe(network, weights="auto", size=None)[0]}
    assert (described(network) | {name: name for name in names})[alias] == OTHERS[network, alias]


def test_every_alias_of_keras_vgg16_is_a_layer_of_that_name_and_shape():
    """Held against Keras itself, whose layers include their activation."""
    from embedsearch.backbones.files.keras_file import import_keras

    keras = import_keras()
    infos, _ = BACKBONES.get("vgg16").describe("vgg16", weights="auto", size=64)
    aliases = {alias: info for info in infos for alias in info.aliases if alias.startswith("block")}
    model = keras.applications.VGG16(weights=None, include_top=False, input_shape=(64, 64, 3))
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in model.layers if layer.name.startswith("block")}
    assert {alias: (*info.shape[1:], info.shape[0]) for alias, info in aliases.items()} == shapes
    assert all(info.type == "ReLU" for alias, info in aliases.items() if "conv" in alias)


def test_hidden_states_are_those_of_transformers(minilm):
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(minilm_folder()).eval()(**inputs, output_hidden_states=True).hidden_states
    assert len(states) == 7
    mask = inputs["attention_mask"].unsqueeze(-1)
    for i, state in enumerate(states):
        layer = minilm.resolve_layer(f"hidden.{i}")
        assert minilm.resolve_layer(f"hidden.{i - 7}") == layer
        close(minilm.extract(minilm.prepare(TEXTS), [layer])[layer].values * mask, state * mask)
    with pytest.raises(UnknownNameError, match=r"hidden\.7"):
        minilm.resolve_layer("hidden.7")


@pytest.mark.parametrize("family", ["albert", "electra", "gpt2", "distilbert", "modernbert", "deberta-v2"])
def test_hidden_states_of_other_families(family):
    """Found by running them, so also where states are a projection, one block's calls, or a last norm."""
    from transformers import AutoConfig, AutoModel

    from embedsearch.backbones.hidden import hidden_state_layers
    from embedsearch.backbones.tap import Inputs, run_to

    small = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 64}
    names = {
        "albert": {**small, "embedding_size": 16},
        "electra": {**small, "embedding_size": 16},
        "gpt2": {"n_embd": 32, "n_head": 2, "n_layer": 3},
        "distilbert": {"dim": 32, "n_heads": 2, "n_layers": 3, "hidden_dim": 64},
        "modernbert": {**small, "pad_token_id": 0},
        "deberta-v2": small,
    }
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=60, **names[family])
    for key in ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"):
        setattr(config, key, 1)
    model = AutoModel.from_config(config).eval()
    inputs = Inputs(kwargs={"input_ids": torch.arange(2, 14).reshape(2, 6)})
    with torch.no_grad():
        states = model(**inputs.kwargs, output_hidden_states=True).hidden_states
        layers = hidden_state_layers(model, inputs)
        assert len(layers) == len(states) == 4
        for layer, state in zip(layers, states, strict=True):
            bare, _, call = layer.partition("@")
            part = model.get_submodule(bare)
            n_calls = {"albert": 3}.get(family, 1) if "albert_layer" in bare else 1
            got = run_to(model, inputs, {"x": part}, {"x": int(call) if call else n_calls})["x"]
            torch.testing.assert_close(got.reshape(state.shape), state)


def test_one_of_several_calls_can_be_named(tmp_path):
    from safetensors.torch import save_file
    from torchvision.models import resnet18

    torch.manual_seed(0)
    save_file(resnet18().state_dict(), tmp_path / "w.safetensors")
    backbone = open_backbone("resnet18", weights=str(tmp_path / "w.safetensors"), size=32)
    image = [np.full((32, 32, 3), 90, np.uint8)]
    plain = []
    handle = backbone._module.layer1[0].relu.register_forward_hook(lambda m, a, out: plain.append(out.clone()))
    layers = [backbone.resolve_layer(f"layer1.0.relu@{call}") for call in (1, 2)]
    assert layers == ["layer1.0.relu@1", "layer1.0.relu"], "the last call has one name only"
    found = backbone.extract(image, layers)
    handle.remove()
    for layer, expected in zip(layers, plain, strict=True):
        close(found[layer].values, expected.flatten(2).transpose(1, 2))
    with pytest.raises(UsageError, match="called 2 times"):
        backbone.resolve_layer("layer1.0.relu@3")


def test_a_wrong_name_says_what_is_near(vgg16, minilm):
    with pytest.raises(UnknownNameError, match=r"did you mean 'relu5_3'"):
        vgg16.resolve_layer("relu5-3")
    with pytest.raises(UnknownNameError, match=r"'first-last-avg'"):
        minilm.resolve_layer("first_last_avg")


def test_several_layers_are_each_pooled_normalised_weighted_and_joined(emoji):
    paths = emoji["google"][:3]
    common = {"weights": "packaged", "size": 64, "pooling": "gem"}
    names, weights = ("relu4_3", "relu5_3"), (2.0, 0.5)
    single = [es.Encoder("vgg16", layer=name, **common).encode(paths) for name in names]
    joined = np.concatenate([x * w for x, w in zip(single, weights, strict=True)], axis=1)
    joined /= np.linalg.norm(joined, axis=1, keepdims=True)
    encoder = es.Encoder("vgg16", layer=names, layer_weights=weights, **common)
    assert encoder.dim == 1024 and encoder.recipe.layers == ("features.22", "features.29")
    np.testing.assert_allclose(encoder.encode(paths), joined, atol=1e-6)
    raw = es.Encoder("vgg16", layer=names, layer_weights=weights, normalize=False, **common).encode(paths)
    np.testing.assert_allclose(np.linalg.norm(raw, axis=1), np.sqrt(4.25), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "states"), [("first-last-avg", (1, 6)), ("last-4-avg", (3, 4, 5, 6))], ids=["first-last", "last-4"]
)
def test_averages_of_hidden_states_are_those_of_their_papers(name, states):
    """Token by token, then over tokens; the first state is the first block's, not the embedding layer's."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    model = AutoModel.from_pretrained(minilm_folder()).eval()
    encoder = es.Encoder("minilm", layer=name, normalize=False)
    for text in ("a short text", "another one, somewhat longer than that"):
        with torch.no_grad():
            found = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        expected = torch.stack([found[i] for i in states]).mean(dim=0)[0].mean(dim=0)
        np.testing.assert_allclose(encoder.encode_one(text), expected.numpy(), atol=1e-5)
    explicit = es.Encoder("minilm", layer=[f"hidden.{i}" for i in states], combine="mean", normalize=False)
    assert replace(explicit.recipe, precision=encoder.recipe.precision) == encoder.recipe


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": ["relu4_3", "features.22"]}, "named twice"),
        ({"layer": ["relu4_3", "relu5_3"], "layer_weights": [1.0]}, "1 layer weights are given for 2 layers"),
        ({"layer": ["relu4_3"], "layer_weights": [-1.0]}, "positive"),
        ({"layer": ["relu4_3", "relu3_3"], "combine": "mean"}, "different shapes"),
        ({"layer": ["relu4_3", "relu5_3"], "combine": "sum"}, "concat, mean"),
        ({"layer": "first-last-avg"}, "is not known"),
        ({"layer": "relu4_3", "pooling": "cls"}, "mean, max or gem"),
        ({"layer": "fc6", "pooling": "rmac"}, "needs a map"),
    ],
)
def test_layers_that_do_not_go_together_are_told_before_anything_is_read(options, message):
    with pytest.raises(UsageError, match=message):
        es.Encoder("vgg16", weights="packaged", size=64, **options)


def test_averages_stand_alone():
    with pytest.raises(UsageError, match="stands alone"):
        es.Encoder("minilm", layer=["last-4-avg", "hidden.0"])


@pytest.mark.parametrize(
    ("name", "layers"), [("vgg16", ["conv2_1", "relu3_3", "pool4"]), ("resnet18", ["conv2_x", "conv4_block2_out"])]
)
def test_several_layers_of_one_pass_are_a_cut_by_torch_fx(name, layers, tmp_path, rng):
    from networks import pixels
    from safetensors.torch import save_file
    from torchvision.models import get_model
    from torchvision.models.feature_extraction import create_feature_extractor
    from torchvision.transforms.functional import normalize

    torch.manual_seed(0)
    plain = get_model(name, weights=None).eval()
    save_file(plain.state_dict(), tmp_path / "w.safetensors")
    for part in plain.modules():  # an in-place ReLU would write into what fx hands out of the layer before it
        part.inplace = False
    backbone = open_backbone(name, weights=str(tmp_path / "w.safetensors"), size=64)
    images = pixels(rng, 2, 64)
    resolved = [backbone.resolve_layer(layer) for layer in layers]
    x = torch.stack([torch.from_numpy(image).permute(2, 0, 1) / 255 for image in images])
    with torch.no_grad():
        cut = create_feature_extractor(plain, resolved)(normalize(x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    found = backbone.extract(images, resolved)
    for layer in resolved:
        close(found[layer].values, cut[layer].flatten(2).transpose(1, 2))
