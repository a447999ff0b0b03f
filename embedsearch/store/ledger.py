"""Which ids a walk over a source has met, in constant memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from types import TracebackType
from typing import Self


class Visit(Enum):
    """What a walk finds out when it meets an id."""

    NEW = "new"
    KNOWN = "known"  # in the store already, and unchanged
    CHANGED = "changed"  # in the store already, with other content
    REPEATED = "repeated"  # met before in this walk


class Ledger:
    """Ids with the fingerprints under which they were stored, and whether the source that is walked gave them.

    Backed by SQLite's temporary database, which spills to disk when it outgrows its cache.
    """

    def __init__(self, stored: Iterable[tuple[str, str, bool]] = ()) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("PRAGMA cache_size=-32768")  # KiB
        self._db.execute(
            "CREATE TABLE ids (id TEXT PRIMARY KEY, fingerprint TEXT, own INTEGER, met INTEGER) WITHOUT ROWID"
        )
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR IGNORE INTO ids VALUES (?, ?, ?, 0)", stored)

    def expect(self, ids: Sequence[str]) -> None:
        """Is told which ids are visited next."""

    def visit(self, item_id: str, fingerprint: str) -> Visit:
        """Marks `item_id` as met, and says how it was known before."""
        row = self._db.execute("SELECT fingerprint, met FROM ids WHERE id = ?", (item_id,)).fetchone()
        if row is None:
            self._db.execute("INSERT INTO ids VALUES (?, ?, 1, 1)", (item_id, fingerprint))
            return Visit.NEW
        if row[1]:
            return Visit.REPEATED
        self._db.execute("UPDATE ids SET met = 1 WHERE id = ?", (item_id,))
        return Visit.KNOWN if row[0] == fingerprint else Visit.CHANGED

    def visit_all(self, ids: Sequence[str], fingerprints: Sequence[str]) -> list[Visit]:
        """What `visit` says of each, in turn."""
        n_before = self._db.total_changes
        self._db.execute("SAVEPOINT many")
        new = "INSERT OR IGNORE INTO ids VALUES (?, ?, 1, 1)"
        self._db.executemany(new, zip(ids, fingerprints, strict=True))
        if self._db.total_changes - n_before == len(ids):  # as is usual, and several times faster
            self._db.execute("RELEASE many")
            return [Visit.NEW] * len(ids)
        self._db.execute("ROLLBACK TO many")
        self._db.execute("RELEASE many")
        return list(map(self.visit, ids, fingerprints))

    def content_hash(self, item_id: str) -> str:
        """The hash of what is stored for one of the ids that are expected, "" where it is not known."""
        return ""

    def _fingerprint(self, item_id: str) -> str | None:
        row = self._db.execute("SELECT fingerprint FROM ids WHERE id = ?", (item_id,)).fetchone()
        return None if row is None else str(row[0])

    def owns(self, item_id: str) -> bool:
        """True unless another source gave it."""
        row = self._db.execute("SELECT own FROM ids WHERE id = ?", (item_id,)).fetchone()
        return row is None or bool(row[0])

    def unmet(self) -> Iterator[str]:
        """Stored ids that this source gave and the walk has not met."""
        for (item_id,) in self._db.execute("SELECT id FROM ids WHERE met = 0 AND own"):
            yield item_id

    def n_guests(self) -> int:
        """How many stored ids another source gave, and the walk has not met."""
        return int(self._db.execute("SELECT count(*) FROM ids WHERE met = 0 AND NOT own").fetchone()[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
