"""The truth: ids, vectors and metadata in a Lance dataset."""

from embedsearch.store.items import ItemStore
from embedsearch.store.ledger import Ledger, Visit
from embedsearch.store.lookup import Lookup
from embedsearch.store.writer import StoreWriter

__all__ = ["ItemStore", "Ledger", "Lookup", "StoreWriter", "Visit"]
