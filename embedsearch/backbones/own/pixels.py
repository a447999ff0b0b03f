"""How networks want the numbers of a picture, by the names that Keras gave them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# keras.applications.imagenet_utils.preprocess_input knows the first three by the same names
MODES = {
    "torch": "RGB, 0..1, minus ImageNet's mean, over its standard deviation (torchvision, timm)",
    "caffe": "BGR, 0..255, minus ImageNet's mean (Keras' VGG and ResNet)",
    "tf": "RGB, -1..1 (Keras' Inception, Xception, MobileNet)",
    "unit": "RGB, 0..1",
    "raw": "RGB, 0..255 (networks that scale by themselves, as Keras' EfficientNet)",
}
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_CAFFE_BGR = np.array([103.939, 116.779, 123.68], np.float32)


def scale_pixels(pixels: NDArray[np.uint8], mode: str) -> NDArray[np.float32]:
    """uint8 H x W x 3 (RGB) as float32 H x W x 3 in a mode of MODES."""
    x = pixels.astype(np.float32)
    if mode == "torch":
        x = (x / np.float32(255) - _MEAN) / _STD
    elif mode == "caffe":
        x = x[..., ::-1] - _CAFFE_BGR
    elif mode == "tf":
        x = x / np.float32(127.5) - np.float32(1)
    elif mode == "unit":
        x = x / np.float32(255)
    return np.ascontiguousarray(x)
