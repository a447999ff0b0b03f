"""The names people know layers by: those of the papers, of Keras, and of hidden states."""

from __future__ import annotations

from collections.abc import Sequence

from embedsearch.types import LayerInfo

# averages of hidden states, place by place, that papers name
AVERAGES = {
    # Su et al., "Whitening Sentence Representations for Better Semantics and Faster Retrieval" (2021):
    # the first *block*, not the embedding layer
    "first-last-avg": ("hidden.1", "hidden.-1"),
    "last-4-avg": ("hidden.-4", "hidden.-3", "hidden.-2", "hidden.-1"),
}


def vgg_aliases(infos: Sequence[LayerInfo]) -> dict[str, str]:
    """VGG (with or without batch normalisation), from the order of its layers.

    `conv4_3` is the convolution alone, `relu4_3` follows it; Keras' `block4_conv3` includes the
    activation, so it is `relu4_3`. `pool5` ends the maps; `fc6`, `fc7`, `fc8` are the linear layers
    alone, and Keras' `fc1`, `fc2` are `relu6`, `relu7`.
    """
    aliases: dict[str, str] = {}
    block, n_convs, n_linear = 1, 0, 5
    for info in infos:
        if info.type == "Conv2d":
            n_convs += 1
            aliases[f"conv{block}_{n_convs}"] = info.name
        elif info.type == "BatchNorm2d":
            aliases[f"bn{block}_{n_convs}"] = info.name
        elif info.type == "ReLU" and info.name.startswith("features"):
            aliases[f"relu{block}_{n_convs}"] = aliases[f"block{block}_conv{n_convs}"] = info.name
        elif info.type == "MaxPool2d":
            aliases[f"pool{block}"] = aliases[f"block{block}_pool"] = info.name
            block, n_convs = block + 1, 0
        elif info.type == "Linear":
            n_linear += 1
            aliases[f"fc{n_linear}"] = info.name
        elif info.type == "ReLU":
            aliases[f"relu{n_linear}"] = aliases[f"fc{n_linear - 5}"] = info.name
    return aliases


def alexnet_aliases(infos: Sequence[LayerInfo]) -> dict[str, str]:
    """AlexNet as Caffe numbers it: `conv1` ... `conv5`, `relu1` ... `relu7`, `pool1`, `pool2`, `pool5`, `fc6` ..."""
    aliases: dict[str, str] = {}
    n = 0
    for info in infos:
        if info.type in ("Conv2d", "Linear"):
            n += 1
            aliases[f"{'conv' if info.type == 'Conv2d' else 'fc'}{n}"] = info.name
        elif info.type in ("ReLU", "MaxPool2d"):
            aliases[f"{'relu' if info.type == 'ReLU' else 'pool'}{n}"] = info.name
    return aliases


def resnet_aliases(infos: Sequence[LayerInfo]) -> dict[str, str]:
    """ResNets: the paper's stages `conv2_x` ... `conv5_x`, and Keras' `conv4_block6_out` and its kin."""
    names = {info.name for info in infos}
    aliases = {"conv1_relu": "relu", "pool1_pool": "maxpool", "avg_pool": "avgpool", "pool5": "avgpool"}
    for stage in range(1, 5):
        aliases[f"conv{stage + 1}_x"] = f"layer{stage}"
        blocks = [name for name in names if name.startswith(f"layer{stage}.") and name.count(".") == 1]
        for name in blocks:
            aliases[f"conv{stage + 1}_block{int(name.rpartition('.')[2]) + 1}_out"] = name
    return {alias: name for alias, name in aliases.items() if name in names}


def hidden_aliases(states: Sequence[str]) -> dict[str, str]:
    """`hidden.0` (the embedding layer's output) to `hidden.N`, and the same counted from the end.

    states: the layers that give the hidden states, in order.
    """
    n = len(states)
    forward = {f"hidden.{i}": name for i, name in enumerate(states)}
    return forward | {f"hidden.{i - n}": name for i, name in enumerate(states)}


def vision_aliases(name: str, infos: Sequence[LayerInfo]) -> dict[str, str]:
    """The aliases of a torchvision network's layers."""
    if name.startswith("vgg"):
        return vgg_aliases(infos)
    if name == "alexnet":
        return alexnet_aliases(infos)
    if name.startswith(("resnet", "resnext", "wide_resnet")):
        return resnet_aliases(infos)
    if name.startswith("vit_"):
        blocks = [info.name for info in infos if info.type == "EncoderBlock"]
        return hidden_aliases(["encoder.dropout", *blocks])
    return {}
