"""Imported results never pass for one's own: marked, not built upon, held against their scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from archive_files import members, pack, resealed
from in_process import invoke

from oodbench.errors import StoreError
from oodbench.leaderboards.rows import group_runs
from oodbench.share.transfer import END, archived_runs, export_store, import_store
from oodbench.store.maintenance import verify
from oodbench.store.store import Key, Store

PAIR = ("--pair", "china-flower")
RUN = ("run", *PAIR, "--detector", "png-length", "--quiet")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store that holds a run."""
    folder = tmp_path_factory.mktemp("honest")
    assert invoke(folder, *RUN, "--store", "mine")[0] == 0
    return folder


def forged(
    honest: Path, target: Path, change: Callable[[dict[str, Any]], dict[str, object]], *,
    scores: bool = False,
) -> Path:  # fmt: skip
    """An archive of the run whose record was changed and sealed again."""
    export_store(Store(honest / "mine"), target)
    kept = [
        (name, resealed(data, **change(json.loads(data)["record"]))
         if name.startswith("run/") and name.endswith("record.json") else data)
        for name, data in members(target)
        if scores or name.startswith("run/") or name == END
    ]  # fmt: skip
    entries = sum(name.endswith("record.json") for name, _ in kept)
    kept[-1] = (END, json.dumps({"entries": entries, "schema": 1}, separators=(",", ":")).encode())
    pack(target, kept)
    return target


def better(record: dict[str, Any]) -> dict[str, object]:
    """An AUROC of 99.9 in every score."""
    for score in record["scores"].values():
        score["auroc"].update(value=0.999, low=0.998, high=1.0)
    return {"scores": record["scores"]}


def auroc(folder: Path, *arguments: str) -> tuple[float, str]:
    """The AUROC that the JSON of the leaderboard shows, and the notes beside it."""
    status, out, _ = invoke(folder, "leaderboard", "--format", "json", *arguments)
    assert status == 0
    (row,) = json.loads(out)
    return round(row["metrics"]["auroc"]["value"], 1), " ".join(row["notes"])


def test_run_computes_its_own_and_says_where_an_imported_result_differs(
    honest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    right, _ = auroc(honest, "--store", "mine")
    forged(honest, tmp_path / "lab.tar", better)
    assert invoke(tmp_path, "store", "import", "lab.tar", "--store", "mine")[0] == 0
    assert auroc(tmp_path, "--store", "mine")[0] == 99.9
    out = invoke(tmp_path, *RUN, "--store", "mine", "--dry-run")[1]
    assert "measure" in out
    status, out, err = invoke(tmp_path, *RUN, "--store", "mine")
    assert status == 0
    assert f"{right:.1f} [" in out
    assert "99.9" not in out
    assert "1 imported entry is not built upon" in err
    (said,) = [r.getMessage() for r in caplog.records]
    assert "was imported from lab.tar and came out otherwise" in said
    assert "99.90 before" in said
    shown, notes = auroc(tmp_path, "--store", "mine")
    assert (shown, "imported" in notes) == (right, False)
    # From here on it is one's own, and nothing is said any more.
    assert invoke(tmp_path, *RUN, "--store", "mine")[2] == ""


def test_every_table_marks_what_was_imported(honest: Path, tmp_path: Path) -> None:
    forged(honest, tmp_path / "lab.tar", better)
    import_store(Store(tmp_path / "mine"), tmp_path / "lab.tar")
    trusting = (*RUN, "--store", "mine", "--trust-imported")
    assert "[imported]" in invoke(tmp_path, *trusting)[1]
    assert invoke(tmp_path, *trusting, "--dry-run")[1] == "nothing is missing\n"
    for format_ in ("table", "markdown", "html", "latex"):
        for layout in ((), ("--layout", "general")):
            out = invoke(tmp_path, "leaderboard", "--store", "mine", "--format", format_, *layout)[
                1
            ]
            assert "imported" in out, (format_, layout)
    for shape in ((), ("--layout", "general"), ("--layout", "general", "--shape", "table")):
        out = invoke(tmp_path, "leaderboard", "--store", "mine", "--format", "csv", *shape)[1]
        assert "imported" in out, shape
    assert "imported from lab.tar" in auroc(tmp_path, "--store", "mine")[1]
    assert (
        invoke(tmp_path, "report", "--out", "page.html", "--store", "mine", "--pictures", "0")[0]
        == 0
    )
    page = (tmp_path / "page.html").read_text()
    assert "[imported]" in page
    assert "imported from lab.tar" in page


def test_metrics_that_are_not_those_of_the_scores_are_refused(honest: Path, tmp_path: Path) -> None:
    archive = forged(honest, tmp_path / "lab.tar", better, scores=True)
    with pytest.raises(
        StoreError, match=r"not those of its scores \(score auroc: .*, not 99\.90\)"
    ):
        import_store(Store(tmp_path / "mine"), archive)
    assert not (tmp_path / "mine").exists()
    status, _, err = invoke(tmp_path, "store", "verify", "lab.tar", "--store", "mine")
    assert (status, "not those of its scores" in err) == (2, True)
    forged(honest, archive, lambda record: {}, scores=True)
    status, out, _ = invoke(tmp_path, "store", "verify", "lab.tar", "--store", "mine")
    assert (status, out) == (0, "sound: run 1, score 2, measure 2, fit 0, diagnosis 0\n")
    assert not (tmp_path / "mine").exists()
    assert import_store(Store(tmp_path / "mine"), archive).written > 1
    # The scores may also be there already, and the record alone be imported.
    forged(honest, archive, better)
    for run in (tmp_path / "mine" / "run").glob("*/*/record.json"):
        run.unlink()
    with pytest.raises(StoreError, match="not those of its scores"):
        import_store(Store(tmp_path / "mine"), archive)


def of_revision(number: int) -> Callable[[dict[str, Any]], dict[str, object]]:
    def change(record: dict[str, Any]) -> dict[str, object]:
        source = record["source"]
        source["detector"]["revision"] = number
        # Another key, so that it stands beside one's own.
        parts = record["parts"] | {"id_scores": "a" * 64}
        key = Key("run", parts).digest
        return better(record) | {"source": source, "parts": parts, "key": key}

    return change


def moved(archive: Path) -> None:
    """Members under the path of the key that their records now have."""
    content = members(archive)
    keys = {
        name.rsplit("/", 1)[0]: json.loads(data)["record"]["key"]
        for name, data in content if name.endswith("record.json")
    }  # fmt: skip

    def place(name: str) -> str:
        folder, _, file = name.rpartition("/")
        return f"run/{keys[folder][:2]}/{keys[folder]}/{file}" if folder else name

    pack(archive, [(place(name), data) for name, data in content])


def test_a_revision_that_nobody_registered_pushes_nothing_out(
    honest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    right, _ = auroc(honest, "--store", "mine")
    store = Store(tmp_path / "mine")
    export_store(Store(honest / "mine"), tmp_path / "own.tar")
    invoke(tmp_path, *RUN, "--store", "mine")
    moved(forged(honest, tmp_path / "lab.tar", of_revision(99)))
    assert import_store(store, tmp_path / "lab.tar").written == 1
    assert auroc(tmp_path, "--store", "mine") == (right, auroc(honest, "--store", "mine")[1])
    assert any("detector 'png-length' at revision 99" in r.getMessage() for r in caplog.records)


def test_an_imported_run_of_a_plug_in_that_is_not_loaded_pushes_out_none_of_ones_own(
    honest: Path, tmp_path: Path
) -> None:
    def unknown(record: dict[str, Any]) -> dict[str, object]:
        return {"detector": "not-loaded"}

    # Both runs are of a detector that is not registered here; only one is one's own.
    entry = next(iter(Store(honest / "mine").entries("run")))
    own = {**entry.record, **unknown({})}
    store = Store(tmp_path / "mine")
    store.write(Key("run", entry.parts), {}, own)
    moved(forged(honest, tmp_path / "lab.tar", lambda r: of_revision(99)(r) | unknown(r)))
    assert import_store(store, tmp_path / "lab.tar").written == 1
    groups = group_runs(store.entries("run"))
    assert sorted(bool(e.imported) for group in groups for e in group.entries) == [False, True]


def test_what_is_made_of_something_imported_is_marked_too(honest: Path, tmp_path: Path) -> None:
    archive = tmp_path / "lab.tar"
    export_store(Store(honest / "mine"), archive)
    store = Store(tmp_path / "mine", trust_imported=True)
    import_store(store, archive)
    for run in (tmp_path / "mine" / "run").glob("*/*/record.json"):
        run.unlink()
    invoke(tmp_path, *RUN, "--store", "mine", "--trust-imported")
    (run_,) = store.entries("run")
    assert run_.imported["from"] == "lab.tar"
    assert verify(store).notes == []


def test_an_archive_cannot_claim_that_it_was_not_imported(honest: Path, tmp_path: Path) -> None:
    archive = forged(honest, tmp_path / "lab.tar", lambda r: {"imported": {}} | better(r))
    store = Store(tmp_path / "mine")
    import_store(store, archive)
    (run,) = store.entries("run")
    assert run.imported["from"] == "lab.tar"
    # Nor does an export hand on where this store has it from.
    export_store(store, tmp_path / "again.tar")
    assert all(b"lab.tar" not in data for _, data in members(tmp_path / "again.tar"))


def test_verify_computes_the_metrics_again(honest: Path, tmp_path: Path) -> None:
    export_store(Store(honest / "mine"), tmp_path / "x.tar")
    store = Store(tmp_path / "mine")
    import_store(store, tmp_path / "x.tar")
    assert invoke(tmp_path, "store", "verify", "--store", "mine")[0] == 0
    (run,) = store.entries("run")
    record = json.loads(json.dumps(run.record))
    store.write(Key("run", run.parts), {}, record | better(record))
    status, _, err = invoke(tmp_path, "store", "verify", "--store", "mine")
    assert status == 2
    assert f"run {run.digest[:12]} (png-length on china-flower) are not those of its" in err


def test_the_runs_of_an_archive_can_be_read_where_they_lie(honest: Path, tmp_path: Path) -> None:
    mine, own = Store(honest / "mine"), Store(tmp_path / "own")
    archive = tmp_path / "lab.tar"
    export_store(mine, archive)
    (found,) = archived_runs(own, archive)
    (run,) = mine.entries("run")
    assert (found.digest, found.record["scores"]) == (run.digest, run.record["scores"])
    assert not list(own.entries("run"))  # nothing was written
    name, data = members(archive)[0]
    pack(archive, [(name, data[:-2] + b" }"), *members(archive)[1:]])
    with pytest.raises(StoreError, match="checksum"):
        archived_runs(own, archive)
