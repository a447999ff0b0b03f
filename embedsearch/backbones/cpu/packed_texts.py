"""The blocks of a BERT over the tokens of many texts, one after the other: nothing is padded, nothing is masked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Protocol, Self

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from embedsearch.backbones.cpu.onednn import BY_NAME, PostOp
from embedsearch.backbones.cpu.packed_linear import PackedLinear

# transformers' models of one and the same block, and what their positions count from
_FIRST_POSITION = {"bert": 0, "roberta": None, "xlm-roberta": None, "camembert": None}  # None: behind the padding's
# fewer texts are not worth loading the compiled attention for; longer ones are torch's strength
_LEAST_TEXTS, _MOST_TOKENS, _COLUMNS = 8, 256, 32


class BlockProducts(Protocol):
    """The products of a block, over tokens x C."""

    def query_key_value(self, x: torch.Tensor) -> Sequence[torch.Tensor]:
        """Each tokens x C, whatever heads they fall into."""

    def after_attention(self, mixed: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Of what the heads gave, and `x` added."""

    def widened(self, x: torch.Tensor) -> torch.Tensor:
        """The wide one, activated."""

    def narrowed(self, wide: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Of what is wide, and `x` added."""


class PlainProducts:
    """Those of a block whose linear layers are packed."""

    def __init__(self, block: Any, activation: PostOp) -> None:
        self._attention, self._after = block.attention.self, block.attention.output
        self._wide, self._last = block.intermediate, block.output
        self._activation = activation

    def query_key_value(self, x: torch.Tensor) -> Sequence[torch.Tensor]:
        return self._attention.query(x), self._attention.key(x), self._attention.value(x)

    def after_attention(self, mixed: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = self._after.dense.plus(mixed, x)
        return product

    def widened(self, x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = self._wide.dense.activated(x, self._activation)
        return product

    def narrowed(self, wide: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = self._last.dense.plus(wide, x)
        return product


class PackedTexts:
    """A network of BERT's build whose linear layers are packed."""

    def __init__(self, module: Any) -> None:
        self._embeddings, self._blocks = module.embeddings, list(module.encoder.layer)
        first = _FIRST_POSITION[module.config.model_type]
        self._first_position = module.embeddings.padding_idx + 1 if first is None else first
        activation = BY_NAME[module.config.hidden_act]
        self._products: list[BlockProducts] = [PlainProducts(block, activation) for block in self._blocks]

    @classmethod
    def of(cls, module: nn.Module, products: Sequence[BlockProducts] | None = None) -> Self | None:
        """None for a network of another build. The plain weights of its packed layers are dropped.

        products: of each block, in the place of those of its packed layers."""
        if not is_of_the_build(module):
            return None
        packed = cls(module)
        if not all(isinstance(linear, PackedLinear) for block in packed._blocks for linear in _linears(block)):
            return None
        if products is not None:
            packed._products = list(products)
        for part in module.modules():
            if isinstance(part, PackedLinear):
                part.drop_weight()
        return packed

    def depth(self, layer: str) -> int | None:
        """See `depth_of`."""
        return depth_of(layer, len(self._blocks))

    def run(self, texts: Sequence[Sequence[int]], layers: Sequence[str]) -> dict[str, torch.Tensor]:
        """What `layers` (those with a depth) answer for texts of token ids: all tokens x C."""
        lengths = [len(text) for text in texts]
        ids = torch.tensor([token for text in texts for token in text])
        starts = torch.tensor([0, *lengths]).cumsum(0)
        places = torch.arange(len(ids)) - starts[:-1].repeat_interleave(starts.diff())
        x = self._embeddings(input_ids=ids[None], position_ids=places[None] + self._first_position)[0]
        wanted = {layer: self.depth(layer) for layer in layers}
        found = {layer: x for layer, depth in wanted.items() if depth == 0}
        deepest = max(depth or 0 for depth in wanted.values())
        for number in range(1, deepest + 1):
            x = self._block(self._blocks[number - 1], self._products[number - 1], x, lengths, starts)
            found.update((layer, x) for layer, depth in wanted.items() if depth == number)
        return found

    def _block(
        self, block: Any, products: BlockProducts, x: torch.Tensor, lengths: list[int], starts: torch.Tensor
    ) -> torch.Tensor:
        attention = block.attention.self
        heads = (len(x), attention.num_attention_heads, attention.attention_head_size)
        q, k, v = (part.view(heads) for part in products.query_key_value(x))
        mixed = _attention(q, k, v, lengths, starts, attention.scaling)
        x = block.attention.output.LayerNorm(products.after_attention(mixed.view(len(x), -1), x))
        y: torch.Tensor = block.output.LayerNorm(products.narrowed(products.widened(x), x))
        return y


def is_of_the_build(module: nn.Module) -> bool:
    """Whether this is a network of BERT's build, made of blocks that are known here."""
    config: Any = getattr(module, "config", None)
    return (
        getattr(config, "model_type", None) in _FIRST_POSITION
        and not getattr(config, "is_decoder", False)
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
        and config.hidden_act in BY_NAME
    )


def depth_of(layer: str, n_blocks: int) -> int | None:
    """After how many of `n_blocks` a layer answers; None for one inside a block or above them all."""
    if layer in ("embeddings", "encoder"):
        return 0 if layer == "embeddings" else n_blocks
    head, _, number = layer.rpartition(".")
    return int(number) + 1 if head == "encoder.layer" and number.isdigit() else None


def _attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: list[int], starts: torch.Tensor, scale: float
) -> torch.Tensor:
    """Each token looks at those of its own text. q, k, v: tokens x heads x dim."""
    out = torch.empty_like(q)
    are_many = len(lengths) >= _LEAST_TEXTS and max(lengths) <= _MOST_TOKENS
    if are_many and q.dtype == torch.bfloat16 and q.shape[2] % _COLUMNS == 0:
        from embedsearch.backbones.cpu.attention import attend

        attend(bits_of(q), bits_of(k), bits_of(v), starts.numpy(), scale, bits_of(out))
        return out
    start = 0
    for length, n in _runs(lengths):
        own = slice(start, start + n * length)
        query, key, value = (part[own].view(n, length, *q.shape[1:]).transpose(1, 2) for part in (q, k, v))
        mixed = scaled_dot_product_attention(query, key, value, scale=scale)  # n x heads x length x dim
        out[own].view(n, length, *q.shape[1:]).copy_(mixed.transpose(1, 2))
        start = own.stop
    return out


def bits_of(x: torch.Tensor) -> Any:
    """The memory of a bfloat16 tensor as numpy's uint16."""
    return x.view(torch.uint16).numpy()


def _runs(lengths: list[int]) -> Iterator[tuple[int, int]]:
    """Each length with the number of texts in a row that have it."""
    for length, run in groupby(lengths):
        yield length, len(list(run))


def _linears(block: Any) -> tuple[nn.Module, ...]:
    attention = block.attention
    return (
        attention.self.query, attention.self.key, attention.self.value, attention.output.dense,
        block.intermediate.dense, block.output.dense,
    )  # fmt: skip
