"""The layers of one network, found by any of their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from embedsearch.backbones.aliases import AVERAGES
from embedsearch.errors import UsageError, unknown
from embedsearch.types import LayerInfo


class LayerTable:
    """Layers by their dotted names, in the order in which they answer.

    aliases: other name -> dotted name, or NAME@CALL for one of several calls.
    """

    def __init__(self, infos: Sequence[LayerInfo], aliases: Mapping[str, str] | None = None) -> None:
        self._infos = {info.name: info for info in infos}
        self._aliases = dict(aliases or {})

    def listed(self) -> list[LayerInfo]:
        """Every layer with the aliases it answers to."""
        of: dict[str, list[str]] = {}
        for alias, target in self._aliases.items():
            name, at, call = target.partition("@")
            of.setdefault(name, []).append(alias + (f" ({at}{call})" if at else ""))
        return [replace(info, aliases=tuple(of.get(name, ()))) for name, info in self._infos.items()]

    def resolve(self, name: str, network: str) -> str:
        """The one name that `name` (dotted or alias, either with @CALL) stands for.

        The last call is the one without @CALL, so that it has one name only. Raises UnknownNameError with
        the nearest names, UsageError for a call that there is not.
        """
        target = self._aliases.get(name, name) if name not in self._infos else name
        bare, at, call = target.partition("@")
        bare = self._aliases.get(bare, bare) if bare not in self._infos else bare
        if bare not in self._infos:
            averages = AVERAGES if "hidden.0" in self._aliases else ()
            hint = f"(`embedsearch layers {network}` lists them)"
            raise unknown("layer", name, [*self._infos, *self._aliases, *averages], hint)
        n_calls = self._infos[bare].n_calls
        if at and not (call.isdigit() and 1 <= int(call) <= n_calls):
            times = "once" if n_calls == 1 else f"{n_calls} times, so @1 to @{n_calls} are valid"
            raise UsageError(f"layer {name!r}: {bare} is called {times} in a pass")
        return bare if not at or int(call) == n_calls else f"{bare}@{int(call)}"

    def info(self, layer: str) -> LayerInfo:
        """What is known of a resolved layer."""
        return self._infos[layer.partition("@")[0]]

    def call_of(self, layer: str) -> int:
        """The number of the call that a resolved layer stands for."""
        call = layer.partition("@")[2]
        return int(call) if call else self.info(layer).n_calls
