"""What an add meets: a few inputs beside a store that may be large."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from embedsearch.store.items import ItemStore
from embedsearch.store.ledger import Ledger, Visit


class Lookup(Ledger):
    """A ledger of what the walk meets and what was staged before; what is stored is looked up, a shard at a time.

    n_staged: met inputs that are staged as they are now.
    """

    def __init__(self, store: ItemStore, key: str, staged: Iterable[tuple[str, str]]) -> None:
        """key: the column of `store` with the ids of inputs."""
        super().__init__((item_id, fingerprint, True) for item_id, fingerprint in staged)
        self._store = store
        self._key = key
        self._near: dict[str, tuple[str, str]] = {}
        self.n_staged = 0
        self._stale: list[str] = []

    def expect(self, ids: Sequence[str]) -> None:
        rows = self._store.rows_with(self._key, ids)
        found = self._store.columns_at(rows, [self._key, "fingerprint", "content_hash"]).to_pydict()
        prints = zip(found["fingerprint"], found["content_hash"], strict=True)
        self._near = dict(zip(found[self._key], prints, strict=True))

    def visit(self, item_id: str, fingerprint: str) -> Visit:
        staged = self._fingerprint(item_id)
        met = super().visit(item_id, fingerprint)  # what is known here is staged
        stored = self._near.get(item_id)
        if met is Visit.REPEATED:
            return met
        if met is Visit.KNOWN and (stored is None or stored[0] != fingerprint):
            self.n_staged += 1
            return met
        if staged is not None:
            self._stale.append(item_id)
        if stored is None:
            return Visit.NEW
        return Visit.KNOWN if stored[0] == fingerprint else Visit.CHANGED

    def visit_all(self, ids: Sequence[str], fingerprints: Sequence[str]) -> list[Visit]:
        return list(map(self.visit, ids, fingerprints))

    def take_stale(self) -> list[str]:
        """Met ids whose staged rows are not what the source gives now, each told once."""
        found, self._stale = self._stale, []
        return found

    def content_hash(self, item_id: str) -> str:
        return self._near.get(item_id, ("", ""))[1]
