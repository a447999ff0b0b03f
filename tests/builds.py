"""What the tests of building share."""

from __future__ import annotations

import json

VGG = {"weights": "packaged", "size": 64}


def skipped(out):
    return {entry["id"]: entry["reason"] for entry in map(json.loads, (out / "skipped.jsonl").read_text().splitlines())}
