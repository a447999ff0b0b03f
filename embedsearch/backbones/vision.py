"""Every classification network of torchvision, by its name there."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
import torchvision.models as models
from torch import nn
from torch.overrides import TorchFunctionMode

from embedsearch.backbones.aliases import vision_aliases
from embedsearch.backbones.base import BackboneOptions
from embedsearch.backbones.cpu.joined_blocks import join_blocks
from embedsearch.backbones.cpu.joined_steps import join_steps
from embedsearch.backbones.cpu.packed_linear import PackedLinear, pack_linears
from embedsearch.backbones.files.weights import assign_weights
from embedsearch.backbones.layer_table import LayerTable
from embedsearch.backbones.named import NamedBackbone
from embedsearch.backbones.outputs import as_features
from embedsearch.backbones.probe import PROBE_BATCH, probe
from embedsearch.backbones.tap import Inputs
from embedsearch.backbones.vision_weights import vision_weights
from embedsearch.errors import UsageError
from embedsearch.types import CLASS, CONTENT, Features, LayerInfo, Modality

# the flags with which torchvision builds these two when it loads its own weights
_WITH_WEIGHTS = {"transform_input": True, "aux_logits": True, "init_weights": False}
_BUILD: dict[str, dict[str, Any]] = {"inception_v3": _WITH_WEIGHTS, "googlenet": _WITH_WEIGHTS}
_TOPS = ("avgpool", "classifier", "dropout", "fc", "heads", "head")  # what networks call what follows their maps
_CONVNEXT_INSIDE = re.compile(r"features\.\d+\.\d+\.block\.[1-5]")


class TorchvisionBackbone(NamedBackbone):
    """A torchvision network. Pictures come as uint8 size x size x 3 and are normalised as its weights ask."""

    modality = Modality.IMAGE

    def __init__(self, name: str, options: BackboneOptions) -> None:
        self.name = name
        transforms = models.get_model_weights(name).DEFAULT.transforms()
        module, table, self.size = _skeleton(name, options.size)
        self.default_layer = _default_layer(name, table.listed())
        self.map_pooling = "rmac" if name.startswith("vgg") else "mean"  # measured: docs/quality.md
        shapes = [info.shape for info in table.listed() if info.shape is not None]
        self._largest = max(map(math.prod, shapes), default=0)
        has_maps = any(len(shape) == 3 for shape in shapes)
        loaded = vision_weights(name, options.weights, options.expect_sha256)
        assign_weights(module, loaded)
        self.weights_sha256, self.weights_origin = loaded.sha256, loaded.origin
        super().__init__(module, table, options)
        if has_maps:
            self._module.to(memory_format=torch.channels_last)
        self._mean = torch.tensor(transforms.mean, device=self._device).view(1, 3, 1, 1)
        self._std = torch.tensor(transforms.std, device=self._device).view(1, 3, 1, 1)

    @classmethod
    def describe(cls, name: str, *, weights: str, size: int | None, example: Any = None) -> tuple[list[LayerInfo], str]:
        _, table, _ = _skeleton(name, size)
        return table.listed(), _default_layer(name, table.listed())

    def prepare(self, values: Sequence[Any]) -> list[Any]:
        return list(values)

    def bucket(self, prepared: Any) -> Hashable:
        return tuple(prepared.shape)

    def item_bytes(self) -> int:
        return self._largest * (2 if self._autocast else 4)

    def check_size(self, size: int) -> None:
        skeleton, _, _ = _skeleton(self.name, self.size)
        try:
            probe(skeleton, _pictures(size), {})
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise UsageError(f"{self.name} at {self.size} px cannot read pictures of {size} px: {reason}") from error

    def collate(self, batch: Sequence[Any]) -> Inputs:
        pixels = self.to_device(torch.from_numpy(np.stack(batch)))  # B x H x W x 3, uint8
        # seen as B x 3 x H x W they lie in memory as convolutions read them fastest
        scaled = pixels.permute(0, 3, 1, 2).to(torch.float32).div_(255)
        return Inputs((scaled.sub_(self._mean).div_(self._std),))

    def make_ready(self) -> None:
        if self._device.type == "cpu":
            pack_linears(self._module)
            join_blocks(self._module)
            join_steps(self._module)

    def to_features(self, layer: str, output: torch.Tensor, batch: Sequence[Any]) -> Features:
        mask = roles = None
        if output.ndim == 3 and isinstance(self._module, models.VisionTransformer):
            mask = torch.ones(output.shape[:2], dtype=torch.bool, device=output.device)
            roles = torch.full(output.shape[:2], CONTENT, dtype=torch.int8, device=output.device)
            # before the encoder the class token is not there yet
            roles[:, 0] = CLASS if layer.startswith("encoder") else CONTENT
        return as_features(output, layer, channels_last=self._channels_last(layer), mask=mask, roles=roles)

    def blank(self, layers: Sequence[str]) -> dict[str, Features]:
        infos = {layer: self._table.info(layer) for layer in layers}
        return {
            layer: self.to_features(info.name, torch.zeros((1, *(info.shape or ()))), [])
            for layer, info in infos.items()
        }

    def _channels_last(self, layer: str) -> bool:
        """Where a network of transformers or ConvNeXt blocks works on B x H x W x C."""
        kind = type(self._module.get_submodule(layer))
        if kind in (nn.Linear, PackedLinear, nn.LayerNorm):
            return True
        if isinstance(self._module, models.SwinTransformer):
            return kind is not nn.Conv2d and layer not in ("permute", "avgpool")
        return isinstance(self._module, models.ConvNeXt) and bool(_CONVNEXT_INSIDE.fullmatch(layer))


def _skeleton(name: str, size: int | None) -> tuple[nn.Module, LayerTable, int]:
    """The network on the meta device, its layers, and the side of its input in pixels.

    It takes no memory and draws no random numbers for weights that are replaced anyway.
    """
    side = size or int(models.get_model_weights(name).DEFAULT.transforms().crop_size[0])
    options = {"image_size": side} if name.startswith("vit_") else _BUILD.get(name, {})
    try:
        with _ParametersOnMeta():
            module = models.get_model(name, weights=None, **options).to("meta")
        infos = probe(module.eval(), _pictures(side))
        return module, LayerTable(infos, vision_aliases(name, infos)), side
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{name} cannot read pictures of {side} px: {reason}") from error


def _pictures(side: int) -> Inputs:
    return Inputs((torch.empty(PROBE_BATCH, 3, side, side, device="meta"),))


class _ParametersOnMeta(TorchFunctionMode):
    """Puts new parameters on the meta device, and leaves alone the small tensors that builders compute with."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.empty:
            kwargs["device"] = "meta"
        return function(*args, **kwargs)


def _default_layer(name: str, infos: list[LayerInfo]) -> str:
    """VGG: the last layer of block 4, which finds like pictures better than the usual last one
    (docs/quality.md). Others: the last map or tokens before the pooling and the classifier."""
    if name.startswith("vgg"):
        fourth_pool = [info.name for info in infos if info.type == "MaxPool2d"][3]
        return f"features.{int(fourth_pool.rpartition('.')[2]) - 1}"
    return [info.name for info in infos if len(info.shape or ()) >= 2 and not info.name.startswith(_TOPS)][-1]
