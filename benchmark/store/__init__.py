"""The content-addressed store: its entries, their files, and looking after them."""

from oodbench.store.store import DamagedEntryError, Entry, Key, Store

__all__ = ["DamagedEntryError", "Entry", "Key", "Store"]
