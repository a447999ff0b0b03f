"""The machine that figures were taken on, in words."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_TELLING = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile")


def describe() -> str:
    """Processor, cores, vector instructions, huge pages, load, and the level that FAISS runs at."""
    cpu, flags = platform.processor() or platform.machine(), set[str]()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                cpu = value.strip()
            elif key.strip() == "flags":
                flags = set(value.split())
                break
    has = [flag for flag in _TELLING if flag in flags]
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    huge = pages.read_text().split("[")[1].split("]")[0] if pages.exists() else "unknown"
    return (
        f"{cpu}, {os.cpu_count()} cores, {' '.join(has) or 'no AVX2'}; transparent huge pages: {huge}; "
        f"load when it began {os.getloadavg()[0]:.1f}; FAISS runs at {faiss_level()}"
    )


def faiss_level() -> str:
    """The vector instructions that FAISS has chosen."""
    import faiss

    config = getattr(faiss, "SIMDConfig", None)
    return str(config.get_level_name()) if config is not None else str(faiss.get_compile_options()).strip()
