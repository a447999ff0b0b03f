"""Which layers give the hidden states that transformers' models return."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import nn

from embedsearch.backbones.outputs import first_tensor
from embedsearch.backbones.tap import Inputs
from embedsearch.errors import UsageError


def hidden_state_layers(module: nn.Module, inputs: Inputs) -> list[str]:
    """The layer whose answer is `hidden_states[i]` of `module`, for every i; [] where that cannot be told.

    Found by identity of the tensors in one pass, so that it holds for every family, including those
    whose first state is a projection of the embeddings (ELECTRA) or that call one block several times
    (ALBERT: name@CALL). Of layers that answer with the same tensor, a block counts before what is in it.
    """
    answers: list[tuple[str, int, torch.Tensor]] = []
    n_calls: Counter[str] = Counter()
    handles = []

    def watch(name: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            n_calls[name] += 1
            try:
                answers.append((name, n_calls[name], first_tensor(output)))
            except UsageError:
                return

        return hook

    try:
        for name, layer in module.named_modules():
            if name:
                handles.append(layer.register_forward_hook(watch(name)))
        with torch.no_grad():
            answer = module(*inputs.args, **inputs.kwargs, output_hidden_states=True)
    finally:
        for handle in handles:
            handle.remove()
    states = getattr(answer, "hidden_states", None) or ()
    named = []
    for state in states:
        # GPT-2 returns a view of its last norm
        same = [(name, call) for name, call, tensor in answers if tensor is state or tensor is state._base]
        if not same:
            return []
        name, call = min(same, key=lambda found: (not found[0].rpartition(".")[2].isdigit(), found[0].count(".")))
        named.append(name if call == n_calls[name] else f"{name}@{call}")
    return named
