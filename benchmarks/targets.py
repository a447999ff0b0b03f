"""What the search is to reach, and whether it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from curves import speed_at
from libraries import SVS, Hnswlib, Usearch
from ours import Ours, OursIndexOnly
from rounds import Measured

RECALLS = (0.95, 0.99)
HARD_SET = "texts"
FACTORS = {Hnswlib.name: 2.0, Usearch.name: 2.0, SVS.name: 1.0}
MAX_BUILD, MAX_MEMORY, MAX_SINGLE = 0.7, 0.6, 1.0


@dataclass(frozen=True)
class Ratio:
    """One comparison. api, inside: the ratio by the public road and of the index alone, None where there is none.

    least, most: the target, if there is one. reached: by the peer at all; where it is not, ours only has to.
    """

    what: str
    api: float | None
    inside: float | None
    least: float | None = None
    most: float | None = None
    reached: bool = True

    @property
    def target(self) -> str:
        if self.least is not None:
            return f">= {self.least:.1f}"
        return "" if self.most is None else f"<= {self.most:.1f}"

    @property
    def is_met(self) -> bool | None:
        """None without a target. The public road counts, where it can be asked for a recall."""
        figure = self.api
        if self.least is None and self.most is None:
            return None
        if figure is None:
            return False
        return figure >= self.least if self.least is not None else figure <= (self.most or 0.0)


def ratios(set_name: str, results: Sequence[Measured]) -> list[Ratio]:
    """Ours to the peers that were measured, with the targets of the set."""
    by_name = {result.library.name: result for result in results}
    mine = [by_name.get(Ours.name), by_name.get(OursIndexOnly.name)]
    if mine == [None, None]:
        return []
    peers = [result for result in results if result not in mine]
    found = []
    for recall in RECALLS:
        speeds = {peer.library.name: speed_at(peer.points, recall) for peer in peers}
        own = [None if m is None else speed_at(m.points, recall) for m in mine]
        rows = [(name, factor if set_name == HARD_SET else None) for name, factor in FACTORS.items() if name in speeds]
        reached = {name: speed.qps for name, speed in speeds.items() if speed is not None}
        if set_name != HARD_SET and reached:
            best = max(reached, key=lambda name: reached[name])
            rows.append((best, 1.0))
        for place, (name, factor) in enumerate(rows):
            is_best = set_name != HARD_SET and place == len(rows) - 1 and factor is not None
            what = f"queries/s at {recall:.2f}, to {f'the best of all, {name}' if is_best else name}"
            other = reached.get(name)
            api, inside = (
                # a peer that never gets there is beaten by whoever does
                None if speed is None else (float("inf") if other is None else speed.qps / other)
                for speed in own
            )
            found.append(Ratio(what, api, inside, least=factor, reached=other is not None))
    rival = by_name.get(Hnswlib.name)
    if rival is not None:
        for what, read, most in _COSTS:
            api, inside = (_share(m, rival, read) for m in mine)
            found.append(Ratio(f"{what}, to {rival.library.name}", api, inside, most=most))
    return found


def _share(mine: Measured | None, rival: Measured, read: Callable[[Measured], float | None]) -> float | None:
    figures = None if mine is None else read(mine), read(rival)
    return None if figures[0] is None or not figures[1] else figures[0] / figures[1]


_COSTS: tuple[tuple[str, Callable[[Measured], float | None], float], ...] = (
    ("build seconds", lambda result: result.build.seconds, MAX_BUILD),
    ("memory", lambda result: result.build.memory_bytes or result.build.disk_bytes, MAX_MEMORY),
    ("one query at a time", lambda result: result.micros, MAX_SINGLE),
)
