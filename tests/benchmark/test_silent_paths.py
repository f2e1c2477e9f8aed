"""Every place that skips, swallows or replaces something, and what is said of it.

Listed are the handlers that do not raise, `suppress`, decoding with replacements and `continue` of
the rooms that read images and results and make tables.  A new one is entered here with what a user
is told; if that is nothing, it has to be so because nothing is lost.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmark"
ROOMS = ("datasets", "tables", "leaderboards", "store", "share", "flow/stored", "rank")

#: What is said where an entry of a set is left out or changed (tests: test_own_folders,
#: test_what_is_said, test_own_formats).
CAPTION = "counted by reason in the caption"
LIST = "said in the list itself"
STDERR = "one line on standard error"
VERDICT = "a line of `store verify`"
#: Nothing is lost by it.
SEARCH = "nothing: the next reading is tried, and what fits none raises"
CACHE = "nothing: made again from the source"
ABSENT = "nothing: it counts as absent, and whoever needs it makes or names it"
STRUCTURE = "nothing: a cell or node that has been dealt with"
HARMLESS = "nothing: no result and no file depends on it"

PATHS = {
    # ------------------------------------------------------------------ images
    "datasets/dataset_status.py:status": LIST,
    "datasets/dataset_status.py:_found": LIST,
    "datasets/formats/image_archive.py:TarArchive.read": SEARCH,
    "datasets/formats/npz.py:_beside": "nothing: parts without labels or groups have none",
    "datasets/formats/parquet.py:ShardFiles.decode": STRUCTURE,
    "datasets/formats/parquet.py:_values": "nothing: bytes of a label stay apart as \\xNN",
    "datasets/formats/parquet.py:_features": SEARCH,
    "datasets/formats/pixel_csv.py:_is_number": SEARCH,
    "datasets/image_names.py:image_names": "`oodbench scores` notes why files are left empty",
    "datasets/naming.py:split_name": SEARCH,
    "datasets/naming.py:exists": SEARCH,
    "datasets/naming.py:_number": SEARCH,
    "datasets/naming.py:_range": SEARCH,
    "datasets/pairs.py:get_pair": SEARCH,
    "datasets/pairs.py:_short": SEARCH,
    "datasets/reading/image_decoding.py:_frames": CAPTION,
    "datasets/reading/image_tree.py:_entries": CAPTION,
    "datasets/reading/image_tree.py:tree_of": CAPTION,
    "datasets/reading/labels.py:_plain": "nothing: bytes of a label stay apart as \\xNN",
    "datasets/reading/parallel_decoding.py:answer": "raised by the process that asked",
    "datasets/reading/pixel_values.py:parse_range": SEARCH,
    "datasets/single_images.py:read_loose": "refused together, or `unreadable` with its flag",
    "datasets/single_images.py:_file": "refused together, or `unreadable` with its flag",
    "datasets/sources/archives.py:read_tar": "nothing: other members of a published archive",
    "datasets/sources/embedded.py:_patches": STRUCTURE,
    "datasets/sources/fetching.py:_verify_idx": STRUCTURE,
    "datasets/sources/published_archives.py:read_notmnist": CAPTION,
    "datasets/spec.py:is_plainly_registered": SEARCH,
    "datasets/split_cache.py:Slot.read": CACHE,
    "datasets/split_cache.py:Slot.hashes": CACHE,
    "datasets/transforms.py:apply": STRUCTURE,
    # ------------------------------------------------------------------ tables
    "tables/after_run.py:diagnostics_table": "nothing: equal to a row that is there",
    "tables/general.py:_grid": STRUCTURE,
    "tables/general.py:leaders": "nothing: a column of one value has no best",
    "tables/layout/filled.py:fill_block": STRUCTURE,
    "tables/render/console.py:_narrowed": STRUCTURE,
    "tables/render/latex_fit.py:_line": STRUCTURE,
    "tables/render/text.py:_Printer._widths": STRUCTURE,
    "tables/request.py:suite_groups": "the row's name elsewhere; a suite means its own settings",
    "tables/sources/results.py:Results.__init__": "a note where nothing else answers",
    "leaderboards/paired_tests.py:PairedScores._seedless": "? and its reason where untested",
    "leaderboards/revisions.py:newest_revisions": STDERR,
    "leaderboards/revisions.py:_registered": "the plug-in that cannot be loaded is named at once",
    "leaderboards/set_means.py:_base": SEARCH,
    "leaderboards/set_means.py:_rows": CAPTION,
    "leaderboards/significance_marks.py:Family.test": "? and its reason",
    "leaderboards/significance_marks.py:above_trivial": "an empty cell: nothing trivial ran",
    # ------------------------------------------------------------------ the store
    "store/checkpoint_files.py:read_sealed": ABSENT,
    "store/locks.py:locked": "waiting is said, and for whom",
    "store/locks.py:free": "nothing: what is in use is kept",
    "store/locks.py:_named_holder": "waiting is said without a name",
    "store/locks.py:_kernel_holder": "waiting is said without a name",
    "store/locks.py:_state": "waiting is said without a name",
    "store/maintenance.py:verify": VERDICT,
    "store/maintenance.py:needed": STRUCTURE,
    "store/needs.py:holdings": "nothing: what is not the store's own is left alone",
    "store/needs.py:_folders": ABSENT,
    "store/needs.py:_parts": "all that it may rest on is kept, and `store gc` says why",
    "store/needs.py:needs": STRUCTURE,
    "store/ownership.py:mark_store": HARMLESS,
    "store/ownership.py:_mode": ABSENT,
    "store/plain_files.py:is_plain": ABSENT,
    "store/provenance.py:processor": "the record says no processor",
    "store/provenance.py:commit.git": "the record says no commit",
    "store/records/files.py:read_record": STDERR,
    "store/records/shapes.py:misfit": STDERR,
    "store/storage.py:atomic_file": "nothing: a place that refuses chmod has modes of its own",
    "store/storage.py:LocalStorage.read": ABSENT,
    "store/storage.py:LocalStorage.size": ABSENT,
    "store/storage.py:LocalStorage.rename": ABSENT,
    "store/storage.py:LocalStorage.folders": ABSENT,
    "store/running/heartbeats.py:_read": ABSENT,
    "store/running/heartbeats.py:clear_beat": HARMLESS,
    "store/running/heartbeats.py:forget_failure": HARMLESS,
    "store/running/heartbeats.py:note_failure": "the failure is listed at the end of the run",
    "store/running/kept_checkpoints.py:KeptCheckpoints.push": "nothing: copied next time",
    "store/storage.py:LocalStorage.names": ABSENT,
    "store/storage.py:LocalStorage.note": "nothing: its error is raised, the scratch file removed",
    "store/storage.py:RemoteStorage._listing": ABSENT,
    "store/storage.py:RemoteStorage.recorded": ABSENT,
    "store/storage.py:RemoteStorage.remove": ABSENT,
    "store/storage.py:RemoteStorage.read": ABSENT,
    "store/storage.py:RemoteStorage.size": ABSENT,
    "store/storage.py:RemoteStorage.rename": ABSENT,
    "store/storage.py:_sync_folder": HARMLESS,
    "store/store.py:Store.discard_scratch": HARMLESS,
    "store/store.py:Store.set_aside": STDERR,
    "store/store.py:Store.inspect": STDERR,
    # ------------------------------------------------------------------ archives of results
    "share/category_rules.py:broken_rules": STRUCTURE,
    "share/category_rules.py:_reasons": "nothing: said to hold of what is at hand alone",
    "share/publishing.py:_models": "nothing: detectors without a recipe have no model",
    "share/recomputed.py:Recomputed.wrong": "the reason, as what is wrong with the run",
    "share/recomputed.py:Recomputed._read": "nothing: without scores there is nothing to compare",
    "share/rounded_scores.py:needed_bits": "nothing: without scores nothing is rounded",
    "share/rounded_scores.py:_table": "nothing: without scores nothing is rounded",
    "share/transfer.py:_export": "counted, and said by `store export`",
    "share/transfer.py:import_store": "counted, and said by `store import`",
    "flow/stored/models.py:load_model": "raised as another version of the model",
    "flow/stored/runs.py:_asked_images": "a pair without runs or images is named",
    "flow/stored/runs.py:_distinct": STRUCTURE,
}
REPLACING = {"replace", "ignore", "backslashreplace", True}


def quiet(node: ast.AST, where: tuple[str, ...] = ()) -> Iterator[str]:
    """The functions below a node that leave something out, by their qualified names."""
    for child in ast.iter_child_nodes(node):
        inside = where
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            inside = (*where, child.name)
        raises = any(isinstance(part, ast.Raise) for part in ast.walk(child))
        called = getattr(child, "func", None)
        name = getattr(called, "id", getattr(called, "attr", ""))
        replaces = name == "decode" and any(
            isinstance(given, ast.Constant) and given.value in REPLACING
            for given in getattr(child, "args", ())
        )
        if isinstance(child, ast.keyword):
            given = getattr(child.value, "value", None)
            replaces = child.arg in ("errors", "ignore_errors") and given in REPLACING
        swallows = isinstance(child, ast.ExceptHandler) and not raises
        if swallows or replaces or name == "suppress" or isinstance(child, ast.Continue):
            yield ".".join(where)
        yield from quiet(child, inside)


def test_every_silent_path_is_listed_with_what_is_said() -> None:
    found = {
        f"{path.relative_to(BENCHMARK).as_posix()}:{name}"
        for room in ROOMS
        for path in (BENCHMARK / room).rglob("*.py")
        for name in quiet(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert sorted(found - set(PATHS)) == [], "new: say what a user is told of it"
    assert sorted(set(PATHS) - found) == [], "gone: remove it from the list"


def test_what_is_swallowed_is_found() -> None:
    text = (
        "def one():\n    try:\n        f()\n    except OSError:\n        pass\n"
        "def two():\n    try:\n        f()\n    except OSError as e:\n        raise g() from e\n"
        "class A:\n    def three(self):\n        with suppress(OSError):\n            f()\n"
        "def four():\n    for x in y:\n        if x:\n            continue\n"
        "def five():\n    return b.decode('utf-8', 'replace')\n"
        "def six():\n    return b.decode(errors='ignore')\n"
    )
    assert list(quiet(ast.parse(text))) == ["one", "A.three", "four", "five", "six"]
