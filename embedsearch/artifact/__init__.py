"""The index folder: its layout, its manifest, and how a new generation replaces the old one."""

from embedsearch.artifact.commit import flush, fsync_path, write_atomically
from embedsearch.artifact.layout import Layout
from embedsearch.artifact.lock import write_lock
from embedsearch.artifact.manifest import IndexEntry, Manifest, Previous, StoreEntry, read_manifest, write_manifest
from embedsearch.artifact.pending import Pending, read_pending
from embedsearch.artifact.verify import record_files, verify_files, verify_sizes

__all__ = [
    "IndexEntry",
    "Layout",
    "Manifest",
    "Pending",
    "Previous",
    "StoreEntry",
    "flush",
    "fsync_path",
    "read_manifest",
    "read_pending",
    "record_files",
    "verify_files",
    "verify_sizes",
    "write_atomically",
    "write_lock",
    "write_manifest",
]
