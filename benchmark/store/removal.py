"""Removing runs by name: what goes with them is what no other run needs."""

from __future__ import annotations

from collections.abc import Iterable

from oodbench.errors import StoreError
from oodbench.store.garbage import Waste, judged
from oodbench.store.maintenance import check_exists
from oodbench.store.needs import holdings, needs
from oodbench.store.ownership import is_own_path, is_store
from oodbench.store.storage import LocalStorage
from oodbench.store.store import Entry, Fault, Store


def removable(store: Store, runs: Iterable[Entry]) -> list[Waste]:
    """The runs, and the scores, measurements, fits and diagnoses that only they rest on.

    Reads the store and changes nothing.  StoreError where it is a URL or none, where an entry is
    damaged (what it needs is not known), or where one of the runs is not the store's own.
    """
    check_exists(store)
    if not isinstance(store.storage, LocalStorage):
        raise StoreError(f"{store.storage.location} is a URL; remove works on a folder")
    root = store.storage.root
    if not is_store(root):
        raise StoreError(f"{root} is no store; nothing was touched")
    held = holdings(store, root)
    damaged = [path for path, why in held.unsound.items() if why.fault is Fault.DAMAGED]
    if damaged:
        raise StoreError(
            f"nothing was removed, since {damaged[0]} is damaged; `oodbench store verify` sets it"
            " aside"
        )
    before, chosen = needs(held).kept, [run.path for run in runs]
    entries = dict(held.sound)
    for path in chosen:
        held.sound.pop(path, None)
    after = needs(held).kept
    gone = [*chosen, *sorted(path for path in before - after if path in entries)]
    found = []
    for path in dict.fromkeys(gone):
        if not is_own_path(root, path):
            raise StoreError(
                f"{path} is behind a link and not the store's own; nothing was removed"
            )
        found.append(judged(root, path, entries[path].files))
    return found
