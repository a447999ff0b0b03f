"""Names that users write, mapped to "module:attribute" strings that are imported on use.

Third parties add theirs by entry point, in the groups `embedsearch.backbones`, `embedsearch.pooling`,
`embedsearch.shares` and `embedsearch.index`. A registered name is run by the contract tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from embedsearch.errors import UsageError, unknown


class Registry:
    """One kind of extension: `add` a name, `get` what it stands for."""

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._targets: dict[str, str] = {}
        self._entry_points_read = False

    def add(self, name: str, target: str) -> None:
        """Registers `name` for "package.module:attribute"; a name can be taken only once."""
        if name in self._targets:
            raise UsageError(f"{self.kind} {name!r} is already registered for {self._targets[name]}")
        self._targets[name] = target

    def get(self, name: str) -> Any:
        """The object behind `name`, imported now. Raises UnknownNameError with the nearest names."""
        target = self._targets.get(name) or self._with_entry_points().get(name)
        if target is None:
            raise unknown(self.kind, name, self._targets)
        module, _, attribute = target.partition(":")
        return getattr(import_module(module), attribute)

    def _with_entry_points(self) -> dict[str, str]:
        # scanning installed packages costs tens of milliseconds, so only when our own names do not answer
        if not self._entry_points_read:
            self._entry_points_read = True
            for point in entry_points(group=self.group):
                self._targets.setdefault(point.name, point.value)
        return self._targets

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._with_entry_points()))

    def __contains__(self, name: object) -> bool:
        return name in self._targets or name in self._with_entry_points()


BACKBONES = Registry("backbone", "embedsearch.backbones")
POOLING = Registry("pooling", "embedsearch.pooling")
# how a pooling is split over places, under the name of the pooling
SHARES = Registry("split of pooling", "embedsearch.shares")
INDEXES = Registry("index family", "embedsearch.index")

# every classification network of torchvision.models; a test holds this against torchvision's own list
_TORCHVISION = """
alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161 densenet169
densenet201 efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4
efficientnet_b5 efficientnet_b6 efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s
googlenet inception_v3 maxvit_t mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2
mobilenet_v3_large mobilenet_v3_small regnet_x_16gf regnet_x_1_6gf regnet_x_32gf regnet_x_3_2gf
regnet_x_400mf regnet_x_800mf regnet_x_8gf regnet_y_128gf regnet_y_16gf regnet_y_1_6gf regnet_y_32gf
regnet_y_3_2gf regnet_y_400mf regnet_y_800mf regnet_y_8gf resnet101 resnet152 resnet18 resnet34 resnet50
resnext101_32x8d resnext101_64x4d resnext50_32x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0
shufflenet_v2_x1_5 shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_b swin_s swin_t swin_v2_b
swin_v2_s swin_v2_t vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn vit_b_16 vit_b_32
vit_h_14 vit_l_16 vit_l_32 wide_resnet101_2 wide_resnet50_2
"""
for _name in _TORCHVISION.split():
    BACKBONES.add(_name, "embedsearch.backbones.vision:TorchvisionBackbone")
BACKBONES.add("bert", "embedsearch.backbones.transformer:TransformerBackbone")
BACKBONES.add("minilm", "embedsearch.backbones.transformer:TransformerBackbone")
# a colon at the end: a scheme, followed by what is the user's own (module:net.py:make, keras:model.keras)
BACKBONES.add("module:", "embedsearch.backbones.own.module:ModuleBackbone")
BACKBONES.add("keras:", "embedsearch.backbones.own.keras_model:KerasBackbone")

for _name, _target in {
    "mean": "functions:mean_pool",
    "mean-content": "functions:mean_content_pool",
    "max": "functions:max_pool",
    "gem": "functions:gem_pool",
    "cls": "functions:cls_pool",
    "flatten": "functions:flatten_pool",
    "rmac": "maps:rmac_pool",
    "crow": "maps:crow_pool",
    "grid2x2": "maps:grid2_pool",
    "grid3x3": "maps:grid3_pool",
    "gem-grid3x3": "maps:gem_grid3_pool",
}.items():
    POOLING.add(_name, f"embedsearch.pooling.{_target}")

for _name, _target in {
    "mean": "mean_shares",
    "mean-content": "mean_content_shares",
    "max": "max_shares",
    "gem": "gem_shares",
    "flatten": "flatten_shares",
    "rmac": "rmac_shares",
    "crow": "crow_shares",
    "grid2x2": "grid2_shares",
    "grid3x3": "grid3_shares",
    "gem-grid3x3": "gem_grid3_shares",
}.items():
    SHARES.add(_name, f"embedsearch.pooling.shares:{_target}")

INDEXES.add("flat", "embedsearch.index.flat:FlatIndex")
INDEXES.add("hnsw", "embedsearch.index.hnsw:HNSWIndex")
INDEXES.add("graph", "embedsearch.index.graph.index:GraphIndex")
INDEXES.add("ivf", "embedsearch.index.ivf.index:IVFIndex")
INDEXES.add("factory", "embedsearch.index.factory:FactoryIndex")
