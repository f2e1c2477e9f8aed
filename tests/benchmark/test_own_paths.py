"""Where data of one's own lie stays on this machine; nothing is opened that nobody asked for."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from archive_files import members
from in_process import invoke

from oodbench.datasets.paths.shown_names import NamesOnly, shown_name
from oodbench.share.transfer import export_store, import_store
from oodbench.store.records.files import pack_record
from oodbench.store.store import RECORD, Store

RUN = ("--detector", "mean-intensity", "--quiet", "--store", "mine")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with two sets of one's own, and a folder to work in."""
    generator = np.random.default_rng(0)
    for name, low in (("private", 0), ("secret", 90)):
        images = generator.integers(low, 256, (40, 8, 8), dtype=np.uint8)
        (tmp_path / "home" / "anna").mkdir(parents=True, exist_ok=True)
        np.savez(tmp_path / "home" / "anna" / f"{name}.npz", images=images)
    (tmp_path / "here").mkdir()
    return tmp_path


def ran(home: Path) -> Path:
    """A store of a run on both, named by their whole paths."""
    sets = [str(home / "home" / "anna" / f"{name}.npz") for name in ("private", "secret")]
    named = ("--in-dist", f"{sets[0]}@noise(0.01)", "--ood", sets[1])
    status, _, err = invoke(home / "here", "run", *named, *RUN)
    assert (status, "error" in err) == (0, False)
    return home / "here"


def test_nothing_that_leaves_the_machine_says_where_data_lie(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODBENCH_DATA", str(home / "home"))  # the project leads there
    here, where = ran(home), str(home / "home")
    (run,) = Store(here / "mine").entries("run")
    assert where in str(run.record)
    assert where in " ".join(run.record["notes"])  # type: ignore[arg-type]
    export_store(Store(here / "mine"), here / "x.tar")
    content = members(here / "x.tar")
    assert len(content) > 5
    assert not any(where.encode() in data for _, data in content)
    assert any(b"private.npz@noise(0.01)" in data for _, data in content)
    suite = "title: Mine\npairs: [mine]\ndetectors: [mean-intensity]\n"
    project = here / "oodbench-project"
    (project / "suites").mkdir(parents=True)
    (project / "suites" / "own.yaml").write_text(suite)
    (project / "pairs.yaml").write_text(json.dumps(
        {"mine": {"in_dist": run.record["in_dist"], "ood": run.record["ood"]}}
    ))  # fmt: skip
    command = ("publish", "out", "--suite", "own", "--store", "mine")
    assert invoke(here, *command)[0] == 0
    found = list((here / "out").iterdir())
    assert len(found) == 7
    for file in found:
        assert where.encode() not in file.read_bytes(), file.name
    assert "private.npz" in (here / "out" / "own.txt").read_text()
    assert invoke(here, "report", "--out", "page.html", "--store", "mine")[0] == 0
    assert where not in (here / "page.html").read_text()
    command = ("export", "mean-intensity", "--in-dist", str(run.record["in_dist"]))
    assert invoke(here, *command, "--out", "kept", "--store", "mine", "--accept", "60")[0] == 0
    assert where not in (here / "kept" / "detector.json").read_text()
    # What was exported comes back whole, and is the same run.
    import_store(Store(here / "other"), here / "x.tar")
    (back,) = Store(here / "other").entries("run")
    assert (back.digest, back.record["scores"]) == (run.digest, run.record["scores"])
    assert back.record["in_dist"] == "private.npz@noise(0.01)"


def test_names_only_touches_nothing_else() -> None:
    names = NamesOnly(["/data/a b/sets.npz@blur(2)", "/data/a b", "mnist[0-4]"])
    assert names.text("x: /data/a b/sets.npz@blur(2): 3 of 4") == "x: sets.npz@blur(2): 3 of 4"
    assert names.text("a/b, 10.1000/data, https://x.org/data/a") == (
        "a/b, 10.1000/data, https://x.org/data/a"
    )
    assert names.of({"n": ["/data/a b/c", 1.5, None]}) == {"n": ["a b/c", 1.5, None]}
    assert names.text(f"{os.path.expanduser('~')}/deep/er/x.npz") == "x.npz"
    assert shown_name("/data/a b/@grey") == "a b@grey"


@pytest.mark.parametrize("known", ["stranger", "used here"])
def test_report_opens_no_folder_that_an_imported_record_names(home: Path, known: str) -> None:
    here = ran(home)
    store = Store(here / "mine")
    (run,) = store.entries("run")
    file = here / "mine" / run.path / RECORD
    if known == "stranger":
        file.write_bytes(pack_record(run.record, {"from": "lab.tar", "at": "now"}))
    for array in (here / "data").glob("*"):
        if array.is_file():
            array.unlink()  # the cache of split arrays
    assert invoke(here, "report", "--out", "page.html", "--store", "mine")[0] == 0
    page = (here / "page.html").read_text()
    opened = any(path.is_file() for path in (here / "data").glob("*private*"))
    assert opened == (known == "used here")
    assert ("Not shown: an imported record" in page) == (known == "stranger")


def test_the_cache_of_split_arrays_has_the_permissions_of_the_umask(home: Path) -> None:
    before = os.umask(0o077)
    try:
        here = ran(home)
    finally:
        os.umask(before)
    files = [path for path in (here / "data").rglob("*") if path.is_file()]
    assert files
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in files} == {0}


@pytest.mark.parametrize("by", ["datasets", "pairs", "link", "suite", "suite of names"])
def test_a_strangers_project_leads_nowhere_but_where_the_user_says(home: Path, by: str) -> None:
    here, project = home / "here", home / "here" / "theirs"
    project.mkdir()
    wanted = "../../home/anna/private.npz"
    if by == "link":
        (project / "own.npz").symlink_to(home / "home" / "anna" / "private.npz")
        wanted = "own.npz"
    command = ("run", "--project", "theirs", "--pair", "trap", *RUN)
    if by.startswith("suite"):
        own = str(home / "home" / "anna" / "private.npz")
        pair = f"{own}-{own}" if by == "suite of names" else {"in_dist": own, "ood": own}
        (project / "suites").mkdir()
        body = {"pairs": [pair], "detectors": ["mean-intensity"]}
        (project / "suites" / "trap.yaml").write_text(json.dumps(body))
        command = ("run", "--project", "theirs", "--suite", "trap", *RUN[2:])
        pairs = {}
    elif by == "pairs":
        wanted = str(home / "home" / "anna" / "private.npz")
        pairs = {"trap": {"in_dist": wanted, "ood": wanted}}
    else:
        splits = {"train": 20, "test": 20}
        files = dict.fromkeys(splits, wanted)
        body = {"title": "T", "shape": [1, 8, 8], "splits": splits, "files": files}
        (project / "datasets.yaml").write_text(json.dumps({"bait": body}))
        pairs = {"trap": {"in_dist": "bait", "ood": "bait@invert"}}
    (project / "pairs.yaml").write_text(json.dumps(pairs))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OODBENCH_PROJECT", "")
        patch.delenv("OODBENCH_DATA", raising=False)
        status, out, err = invoke(here, *command)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert "project theirs names" in err
        assert (
            "outside of it; where that is meant, name its folder with --data or OODBENCH_DATA"
            in err
        )
        status, _, err = invoke(here, *command, "--data", str(home / "home"))
        assert "outside of it" not in err
