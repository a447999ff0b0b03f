"""Computing with half the bits or a quarter of them, where the processor has arithmetic for it."""

from __future__ import annotations

import platform
from pathlib import Path

import torch
from torch import nn

from embedsearch.backbones.cpu.int8 import can_multiply_int8
from embedsearch.backbones.cpu.onednn import can_reorder

# layers whose sums are formed by the matrix units; norms and the rest stay float32, and cost nothing
_WEIGHED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware: AVX-512-BF16, AMX, Arm's bf16, or such a GPU.

    torch computes with it elsewhere too, more slowly than with float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not torch._C._has_mkldnn:
        return False
    if platform.machine() in ("aarch64", "arm64"):
        info = Path("/proc/cpuinfo")
        return info.exists() and " bf16" in info.read_text()
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def has_int8(device: torch.device) -> bool:
    """Whether 8-bit integers are what the device multiplies fastest, and bfloat16 is there for the rest.

    Not with AMX: its products of bfloat16 are faster than those of AVX-512-VNNI.
    """
    if device.type != "cpu" or torch.cpu._is_amx_tile_supported():
        return False
    return has_bfloat16(device) and can_reorder() and can_multiply_int8()


def lower(module: nn.Module) -> None:
    """Brings the weights of linear and convolution layers of `module` to bfloat16, for passes under autocast: it would
    do so anew in each pass."""
    for part in module.modules():
        if isinstance(part, _WEIGHED):
            part.to(torch.bfloat16)
