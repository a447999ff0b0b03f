"""Tunes and kills itself after so many shards: python killed_tune.py SOURCE LABELS OUT N_SHARDS"""

from __future__ import annotations

import os
import signal
import sys

import embedsearch as es
from embedsearch.backbones import named
from embedsearch.pipeline.tune import pooled

source, labels, out, n_shards = sys.argv[1:]
save, done = pooled.write_atomically, []


def counted(path, data):
    save(path, data)
    done.append(path)
    if sum(each.suffix == ".safetensors" for each in done) == int(n_shards):
        os.kill(os.getpid(), signal.SIGKILL)


pooled.write_atomically = counted
pooled.SHARD = 16
named.has_bfloat16 = lambda device: False  # as in the tests that go on with it
es.tune(source, labels, weights="packaged", size=64, layers=["features.22"], poolings=["mean"], out=out)
