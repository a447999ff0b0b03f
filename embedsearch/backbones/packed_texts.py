"""The blocks of a BERT over the tokens of many texts, one after the other: nothing is padded, nothing is masked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Self

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from embedsearch.backbones.onednn import BY_NAME
from embedsearch.backbones.packed_linear import PackedLinear

# transformers' models of one and the same block, and what their positions count from
_FIRST_POSITION = {"bert": 0, "roberta": None, "xlm-roberta": None, "camembert": None}  # None: behind the padding's
# fewer texts are not worth loading the compiled attention for; longer ones are torch's strength
_LEAST_TEXTS, _MOST_TOKENS, _COLUMNS = 8, 256, 32


class PackedTexts:
    """A network of BERT's build whose linear layers are packed."""

    def __init__(self, module: Any) -> None:
        self._embeddings, self._blocks = module.embeddings, list(module.encoder.layer)
        first = _FIRST_POSITION[module.config.model_type]
        self._first_position = module.embeddings.padding_idx + 1 if first is None else first
        self._activation = BY_NAME[module.config.hidden_act]

    @classmethod
    def of(cls, module: nn.Module) -> Self | None:
        """None for a network of another build. The plain weights of its packed layers are dropped."""
        config: Any = getattr(module, "config", None)
        if (
            getattr(config, "model_type", None) not in _FIRST_POSITION
            or getattr(config, "is_decoder", False)
            or getattr(config, "position_embedding_type", "absolute") != "absolute"
            or config.hidden_act not in BY_NAME
        ):
            return None
        packed = cls(module)
        if not all(isinstance(linear, PackedLinear) for block in packed._blocks for linear in _linears(block)):
            return None
        for part in module.modules():
            if isinstance(part, PackedLinear):
                part.drop_weight()
        return packed

    def depth(self, layer: str) -> int | None:
        """After how many blocks `layer` answers; None for one inside a block or above them all."""
        if layer in ("embeddings", "encoder"):
            return 0 if layer == "embeddings" else len(self._blocks)
        head, _, number = layer.rpartition(".")
        return int(number) + 1 if head == "encoder.layer" and number.isdigit() else None

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
        for number, block in enumerate(self._blocks[:deepest], start=1):
            x = self._block(block, x, lengths, starts)
            found.update((layer, x) for layer, depth in wanted.items() if depth == number)
        return found

    def _block(self, block: Any, x: torch.Tensor, lengths: list[int], starts: torch.Tensor) -> torch.Tensor:
        attention, after = block.attention.self, block.attention.output
        heads = (len(x), attention.num_attention_heads, attention.attention_head_size)
        q, k, v = (part(x).view(heads) for part in (attention.query, attention.key, attention.value))
        mixed = _attention(q, k, v, lengths, starts, attention.scaling)
        x = after.LayerNorm(after.dense.plus(mixed.view(len(x), -1), x))
        wide = block.intermediate.dense.activated(x, self._activation)
        y: torch.Tensor = block.output.LayerNorm(block.output.dense.plus(wide, x))
        return y


def _attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: list[int], starts: torch.Tensor, scale: float
) -> torch.Tensor:
    """Each token looks at those of its own text. q, k, v: tokens x heads x dim."""
    out = torch.empty_like(q)
    are_many = len(lengths) >= _LEAST_TEXTS and max(lengths) <= _MOST_TOKENS
    if are_many and q.dtype == torch.bfloat16 and q.shape[2] % _COLUMNS == 0:
        from embedsearch.backbones.attention import attend

        attend(_bits(q), _bits(k), _bits(v), starts.numpy(), scale, _bits(out))
        return out
    start = 0
    for length, n in _runs(lengths):
        own = slice(start, start + n * length)
        query, key, value = (part[own].view(n, length, *q.shape[1:]).transpose(1, 2) for part in (q, k, v))
        mixed = scaled_dot_product_attention(query, key, value, scale=scale)  # n x heads x length x dim
        out[own].view(n, length, *q.shape[1:]).copy_(mixed.transpose(1, 2))
        start = own.stop
    return out


def _bits(x: torch.Tensor) -> Any:
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
