"""Running a module only as far as the layers that are asked for, and reading their outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any

import torch
from torch import nn

from embedsearch.backbones.outputs import first_tensor
from embedsearch.errors import UsageError


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a module is called with: module(*args, **kwargs)."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


class _Reached(BaseException):  # not an Exception: a network's own `except Exception` must not stop it
    """Raised inside the forward pass when the last wanted layer has answered."""


def run_to(
    module: nn.Module, inputs: Inputs, layers: Mapping[str, nn.Module], wanted: Mapping[str, int]
) -> dict[str, torch.Tensor]:
    """Outputs of `layers`, from one forward pass that ends as soon as all have answered.

    layers: name -> the module of it. wanted: name -> the number of its call that counts (from 1), for
    modules that a network calls several times. Nothing behind the last of them is computed. The hooks
    are gone when this returns or raises. Raises UsageError when a layer is never reached.
    """
    outputs: dict[str, torch.Tensor] = {}
    handles = []
    waiting = dict(wanted)
    n_calls = dict.fromkeys(wanted, 0)
    active = [True]  # a hook that an interrupt leaves behind does nothing
    thread = get_ident()  # the same layer may be running in another one, for somebody else

    def tap(name: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            if not active or get_ident() != thread:
                return
            n_calls[name] += 1
            if n_calls[name] != wanted[name]:
                return
            value = first_tensor(output)
            del waiting[name]
            # a later in-place layer (VGG's ReLU) would write into what was read here
            outputs[name] = value.clone() if waiting else value
            if not waiting:
                raise _Reached

        return hook

    try:
        for name in wanted:
            handles.append(layers[name].register_forward_hook(tap(name)))
        module(*inputs.args, **inputs.kwargs)
    except _Reached:
        return outputs
    finally:
        active.clear()
        for handle in handles:
            handle.remove()
    raise no_such_call(next(iter(waiting)), n_calls[next(iter(waiting))])


def run_through(module: nn.Module, inputs: Inputs, layers: Mapping[str, nn.Module]) -> dict[str, list[torch.Tensor]]:
    """Every output of `layers` in one whole forward pass, a list as long as the layer was called. For
    networks of which it is not known how often they call a layer.
    """
    outputs: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
    handles = []
    active = [True]
    thread = get_ident()

    def tap(name: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            if active and get_ident() == thread:
                outputs[name].append(first_tensor(output).clone())

        return hook

    try:
        for name, layer in layers.items():
            handles.append(layer.register_forward_hook(tap(name)))
        module(*inputs.args, **inputs.kwargs)
    finally:
        active.clear()
        for handle in handles:
            handle.remove()
    return outputs


def no_such_call(layer: str, n_calls: int) -> UsageError:
    """The error for a layer that has no call, or not as many as NAME@CALL asks for."""
    bare, at, call = layer.partition("@")
    if n_calls == 0 or not at:
        return UsageError(f"layer {bare!r} is not reached in a forward pass of this network")
    return UsageError(f"layer {bare!r} is called {n_calls} times in a pass; @{call} is not valid, use @1 to @{n_calls}")
