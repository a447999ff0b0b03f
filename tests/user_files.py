"""What the tests of networks named by code (module:FILE:NAME) share."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).parent.parent
SEEDED = """
    import numpy as np, torch
    from torch import nn

    def make():
        torch.manual_seed(5)
        return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten(2))

    def small(picture):
        return np.asarray(picture.resize((16, 16))).transpose(2, 0, 1) / 255

    def with_preprocess():
        return make(), small
"""


def write(path, code):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(code))
    return path


def fresh(*arguments, code=None, cwd=None):
    """A process that knows nothing of this one: the command line, or a program."""
    command = [sys.executable, "-c", textwrap.dedent(code)] if code else [sys.executable, "-m", "embedsearch"]
    result = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=300,
        env={**os.environ, "PYTHONWARNINGS": "", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return result.returncode, result.stdout, result.stderr


def conv(seed=5):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten(2))
