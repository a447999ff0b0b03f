"""From whatever a layer answers to Features."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, unpack_sequence

from embedsearch.errors import UsageError
from embedsearch.types import Features


def first_tensor(output: Any) -> torch.Tensor:
    """The tensor that a layer's output is about: itself, or the first one in a tuple, dict or dataclass.

    An LSTM's (output, (h, c)) is its output, attention's (values, weights) its values, and of what has a
    `last_hidden_state` that. Raises UsageError where there is no tensor.
    """
    for tensor in tensors_in(output):
        return tensor
    raise UsageError(f"the layer gives {type(output).__name__}, in which no tensor is found")


def tensors_in(output: Any) -> Iterable[torch.Tensor]:
    """Every tensor in an output, in order."""
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, PackedSequence):
        with warnings.catch_warnings():  # torch tells that nested tensors may change; `padded` undoes them
            warnings.filterwarnings("ignore", message=".*nested tensors.*", category=UserWarning)
            nested = torch.nested.as_nested_tensor(list(unpack_sequence(output)))
        yield nested
    elif getattr(output, "last_hidden_state", None) is not None:
        yield from tensors_in(output.last_hidden_state)
    elif isinstance(output, Mapping):
        for part in output.values():
            yield from tensors_in(part)
    elif isinstance(output, tuple | list):
        for part in output:
            yield from tensors_in(part)
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        for field in dataclasses.fields(output):
            yield from tensors_in(getattr(output, field.name))


def batch_axis_first(output: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    """`output` with the batch in front, as recurrent and attention layers with batch_first=False do not have it."""
    if getattr(layer, "batch_first", True) is False and output.ndim == 3:
        return output.transpose(0, 1)
    return output


def padded(output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A nested tensor, of items of several lengths, as B x T x C, and which of its tokens are real (bool B x T)."""
    values = output.to_padded_tensor(0.0)
    lengths = torch.tensor([len(part) for part in output.unbind()], device=values.device)
    return values, torch.arange(values.shape[1], device=values.device) < lengths[:, None]


def as_features(
    output: torch.Tensor,
    layer: str,
    *,
    channels_last: bool = False,
    mask: torch.Tensor | None = None,
    roles: torch.Tensor | None = None,
) -> Features:
    """A layer's output with the batch in front as B x T x C.

    B x C: one place. B x T x C: tokens, of which `mask` and `roles` (both B x T) tell more. B x C x H x W,
    or B x H x W x C with channels_last: a map. More axes (clips, volumes): places without a grid.
    Raises UsageError for one number an item.
    """
    if output.is_complex():
        raise UsageError(f"layer {layer!r} gives complex numbers; take one that gives real ones")
    if output.is_sparse:
        output = output.to_dense()
    if output.ndim == 2:
        return Features(output.unsqueeze(1))
    if output.ndim == 3:
        known = mask is not None and mask.shape == output.shape[:2]
        return Features(output, mask if known else None, roles=roles if known else None)
    if output.ndim < 2:
        raise UsageError(f"layer {layer!r} gives one number an item; take one that gives a map, tokens or a vector")
    if not channels_last:
        output = output.movedim(1, -1)
    grid = (output.shape[1], output.shape[2]) if output.ndim == 4 else None
    return Features(output.flatten(1, -2), grid=grid)
