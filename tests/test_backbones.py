"""Networks cut at a layer: the features are those of a plain forward pass, and nothing else is computed."""

import numpy as np
import pytest
import torch
import torchvision.models as models
from networks import SIZE, TEXTS, close, pixels
from safetensors.torch import save_file

from embedsearch.backbones import open_backbone
from embedsearch.backbones.packaged import minilm_folder, packaged_vgg16, vgg16_file
from embedsearch.backbones.tap import Inputs, run_to
from embedsearch.errors import UnknownNameError, UsageError
from embedsearch.registry import BACKBONES

# one of each torchvision family, small; all of VGG. The rest of the names is probed in another test.
FAMILIES = {
    **{name: SIZE for name in BACKBONES if name.startswith("vgg")},
    "alexnet": 64, "convnext_tiny": 32, "densenet121": 32, "efficientnet_b0": 32, "googlenet": 32,
    "inception_v3": 75, "maxvit_t": 224, "mnasnet0_5": 32, "mobilenet_v2": 32, "mobilenet_v3_small": 32,
    "regnet_y_400mf": 32, "resnet18": 32, "shufflenet_v2_x0_5": 32, "squeezenet1_1": 32, "swin_t": 32,
    "swin_v2_t": 32, "vit_b_32": 224,
}  # fmt: skip


def test_every_layer_of_vgg16_equals_a_plain_forward_pass(vgg16, rng):
    images = pixels(rng)
    plain = models.vgg16(weights=None).eval()
    plain.load_state_dict(packaged_vgg16().state, strict=False)
    # the usual preprocessing, written out apart from ours
    x = torch.stack([torch.from_numpy(image).permute(2, 0, 1) / 255 for image in images])
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    names = [f"features.{i}" for i in range(31)]
    together = vgg16.extract(images, names)
    with torch.no_grad():
        for name, layer in zip(names, plain.features, strict=True):
            x = layer(x.clone())
            for features in (together[name], vgg16.extract(images, [name])[name]):
                assert features.grid == tuple(x.shape[2:]) and features.mask is None
                close(features.values, x.flatten(2).transpose(1, 2))


def test_the_packaged_weights_are_oxfords_network_up_to_its_border(vgg16, rng):
    """The ONNX file itself, run by onnxruntime on Caffe input, against our torch road."""
    import onnx
    import onnxruntime

    model = onnx.load(vgg16_file())
    relu = [node for node in model.graph.node if node.op_type == "Relu"][12]
    model.graph.output.append(onnx.helper.make_tensor_value_info(relu.output[0], onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image = rng.integers(0, 256, (240, 240, 3), dtype=np.uint8)
    caffe = image[:, :, ::-1].astype(np.float32) - np.array([103.939, 116.779, 123.68], np.float32)
    theirs = session.run([relu.output[0]], {session.get_inputs()[0].name: caffe[None]})[0][0].reshape(512, -1).T
    ours = (
        open_backbone("vgg16", weights="packaged", size=240)
        .extract([image], ["features.29"])["features.29"]
        .values[0]
        .numpy()
    )
    cosine = (ours * theirs).sum() / np.linalg.norm(ours) / np.linalg.norm(theirs)
    assert cosine > 0.99999


def test_every_hidden_state_of_minilm_equals_a_plain_forward_pass(minilm):
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    plain = AutoModel.from_pretrained(minilm_folder()).eval()
    inputs = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        states = plain(**inputs, output_hidden_states=True).hidden_states
    names = ["embeddings", *(f"encoder.layer.{i}" for i in range(6))]
    assert len(states) == len(names)
    features = minilm.extract(minilm.prepare(TEXTS), names)
    for name, state in zip(names, states, strict=True):
        assert torch.equal(features[name].mask, inputs["attention_mask"].bool())
        mask = features[name].mask.unsqueeze(-1)
        close(features[name].values * mask, state * mask)


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    """A weights file of a torchvision network with random numbers, made once a name."""
    folder = tmp_path_factory.mktemp("weights")

    def make(name):
        path = folder / f"{name}.safetensors"
        if not path.exists():
            torch.manual_seed(0)
            options = {"aux_logits": True, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
            save_file(models.get_model(name, weights=None, **options).state_dict(), path)
        return path

    return make


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_contract_of_a_backbone(name, random_weights, rng):
    backbone = open_backbone(name, weights=str(random_weights(name)), size=FAMILIES[name])
    images = pixels(rng, 3, FAMILIES[name])
    layer = backbone.default_layer
    features = backbone.extract(images, [layer])[layer]
    b, t, c = features.values.shape
    blank = backbone.blank([layer])[layer]
    assert blank.values.shape == (1, t, c) and blank.grid == features.grid and b == 3
    assert features.grid is None or features.grid[0] * features.grid[1] == t
    assert not features.values.requires_grad and torch.isfinite(features.values).all()
    alone = backbone.extract(images[1:2], [layer])[layer].values[0]
    close(alone, features.values[1])
    again = backbone.extract(images, [layer])[layer].values
    assert torch.equal(again, features.values), "deterministic"
    module = backbone._module
    assert not module.training and not any(parameter.requires_grad for parameter in module.parameters())
    assert not any(part._forward_hooks for part in module.modules()), "no hook is left"


@pytest.mark.parametrize("name", ["resnet18", "swin_t", "vit_b_32", "convnext_tiny", "googlenet", "vgg11_bn"])
def test_the_whole_network_gives_what_torchvision_gives(name, random_weights, rng):
    """The last layer of all equals a plain call of torchvision's own network with its own preprocessing."""
    size = FAMILIES[name]
    backbone = open_backbone(name, weights=str(random_weights(name)), size=size)
    images = pixels(rng, 2, size)
    options = {"aux_logits": True, "init_weights": False, "transform_input": True} if name == "googlenet" else {}
    plain = models.get_model(name, weights=None, **options).eval()
    from safetensors.torch import load_file

    plain.load_state_dict(load_file(random_weights(name)))
    from torchvision.transforms.functional import normalize

    preset = models.get_model_weights(name).DEFAULT.transforms()
    x = torch.stack([torch.from_numpy(image).permute(2, 0, 1) / 255 for image in images])
    with torch.no_grad():
        expected = plain(normalize(x, preset.mean, preset.std))
    last = backbone.layers()[-1].name
    close(backbone.extract(images, [last])[last].values[:, 0], expected)


def test_maps_of_channels_last_networks_have_their_channels_in_place(random_weights, rng):
    backbone = open_backbone("swin_t", weights=str(random_weights("swin_t")), size=64)
    shapes = {info.name: info.shape for info in backbone.layers()}
    features = backbone.extract(pixels(rng, 1, 64), ["features.1.0", "permute"])
    assert shapes["features.1.0"] == (16, 16, 96)
    assert features["features.1.0"].values.shape == (1, 256, 96) and features["features.1.0"].grid == (16, 16)
    assert features["permute"].values.shape == (1, 4, 768)


@pytest.mark.parametrize("name", sorted(set(BACKBONES) - {"bert", "minilm", "module:", "keras:"}))
def test_every_torchvision_network_can_be_described_without_weights(name):
    infos, default = BACKBONES.get(name).describe(name, weights="auto", size=None)
    found = {info.name: info for info in infos}
    assert default in found and not default.startswith("classifier")
    gflops = [info.gflop for info in infos]
    assert gflops == sorted(gflops) and gflops[-1] > 0
    assert len(found[default].shape) in (2, 3)
    names = {info.name for info in infos if info.type in ("AdaptiveAvgPool2d", "Linear") and "." not in info.name}
    assert default not in names


def test_cost_is_counted_as_published():
    infos = {info.name: info for info in BACKBONES.get("vgg16").describe("vgg16", weights="auto", size=224)[0]}
    assert infos["features.29"].gflop == pytest.approx(30.7, abs=0.05)  # 15.3 G multiply-adds
    assert sum(p.numel() for p in models.vgg16(weights=None).parameters()) == 138_357_544
    assert infos["classifier"].n_params == 138_357_544  # of all that has worked until there
    assert infos["features.1"].n_params == 3 * 64 * 9 + 64
    assert infos["features.22"].shape == (512, 28, 28)


class Counting(torch.nn.Module):
    """Counts its calls; can be told to fail."""

    def __init__(self, inner, fail=False):
        super().__init__()
        self.inner, self.fail, self.calls = inner, fail, 0

    def forward(self, x):
        self.calls += 1
        if self.fail:
            raise RuntimeError("broken on purpose")
        return self.inner(x)


def test_nothing_above_the_layer_is_computed(vgg16, minilm, rng):
    later = []
    parts = dict(vgg16._module.named_modules())
    handles = [parts[f"features.{i}"].register_forward_pre_hook(lambda m, a: later.append(m)) for i in range(23, 31)]
    handles += [
        dict(minilm._module.named_modules())[f"encoder.layer.{i}"].register_forward_pre_hook(
            lambda m, a: later.append(m)
        )
        for i in range(3, 6)
    ]
    vgg16.extract(pixels(rng), ["features.20", "features.22"])
    minilm.extract(minilm.prepare(TEXTS), ["encoder.layer.2"])
    for handle in handles:
        handle.remove()
    assert later == []


def test_hooks_are_gone_and_the_error_is_the_networks_own():
    net = torch.nn.Sequential(
        Counting(torch.nn.Linear(2, 2)), Counting(torch.nn.ReLU(), fail=True), Counting(torch.nn.ReLU())
    )
    with pytest.raises(RuntimeError, match="on purpose"):
        run_to(net, Inputs((torch.ones(1, 2),)), {"0": net[0], "2": net[2]}, {"0": 1, "2": 1})
    assert not any(part._forward_hooks for part in net.modules())
    run_to(net, Inputs((torch.ones(1, 2),)), {"0": net[0]}, {"0": 1})
    assert [part.calls for part in net] == [2, 1, 0]


def test_an_in_place_layer_does_not_write_into_what_was_tapped():
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU(inplace=True))
    x = torch.randn(4, 3)
    with torch.no_grad():
        outputs = run_to(net, Inputs((x,)), {"0": net[0], "1": net[1]}, {"0": 1, "1": 1})
        torch.testing.assert_close(outputs["0"], net[0](x))


def test_the_call_that_counts_is_the_last(random_weights, rng):
    """ResNet uses one ReLU twice in a block; its name stands for the block's output."""
    backbone = open_backbone("resnet18", weights=str(random_weights("resnet18")), size=32)
    assert {info.name: info.n_calls for info in backbone.layers()}["layer1.0.relu"] == 2
    features = backbone.extract(pixels(rng, 2, 32), ["layer1.0.relu", "layer1.0"])
    torch.testing.assert_close(features["layer1.0.relu"].values, features["layer1.0"].values)


def test_bfloat16_stays_near(rng):
    images = pixels(rng)
    exact, rough = (
        open_backbone("vgg16", weights="packaged", size=SIZE, precision=p).extract(images, ["features.22"])[
            "features.22"
        ]
        for p in ("float32", "bfloat16")
    )
    cosine = torch.nn.functional.cosine_similarity(exact.values.flatten(1), rough.values.float().flatten(1))
    assert float(cosine.min()) > 0.999


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"name": "vgg16", "size": 8}, "cannot read pictures of 8 px"),
        ({"name": "vgg16", "weights": "packaged", "size": 64, "device": "cuda:99"}, "cannot be used here"),
    ],
)
def test_wrong_arguments_name_the_value(call, message):
    with pytest.raises(UsageError, match=message):
        open_backbone(**call)


def test_a_wrong_layer_says_what_is_near(vgg16):
    with pytest.raises(UnknownNameError, match=r"did you mean 'features\.22'.*embedsearch layers vgg16"):
        vgg16.resolve_layer("feature.22")
