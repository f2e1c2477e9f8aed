"""Files that users name: whole or as they were; permissions are those of the umask."""

from __future__ import annotations

import os
import resource
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from in_process import invoke

import oodbench
from oodbench.errors import OodbenchError
from oodbench.store.outputs import write_output
from oodbench.store.storage import atomic_file


@contextmanager
def files_end_after(size: int) -> Iterator[None]:
    """What a full disk does: writing beyond that fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    store = str(folder / "results" / "store")
    for pair in ("digits-photos", "china-flower"):
        oodbench.run(pair, ["mean-intensity", "pixel-variance"], store=store, quiet=True)
    status, _, err = invoke(folder, "export", "mean-intensity", "--in-dist", "digits", "--out",
                            "exported", "--quiet")  # fmt: skip
    assert status == 0, err
    return folder


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["leaderboard", "--format", "html", "--layout", "general"], "table.html"),
        (["figure", "densities", "--pair", "digits-photos", "--detector", "pixel-variance"],
         "a.svg"),
        (["report"], "page.html"),
        (["score", "exported", "many.npz"], "scores.csv"),
    ],
)  # fmt: skip
def test_an_output_that_does_not_fit_leaves_the_old_file(
    finished: Path, arguments: list[str], name: str
) -> None:
    if not (finished / "many.npz").exists():
        np.savez(finished / "many.npz", images=np.zeros((600, 8, 8), np.uint8))
    assert invoke(finished, *arguments, "--out", name)[0] == 0
    assert (finished / name).stat().st_size > 1024
    (finished / name).write_text("the table of last week")
    before = sorted(p.name for p in finished.iterdir())
    with files_end_after(1024):
        status, _, err = invoke(finished, *arguments, "--out", name)
    assert status == 2, err
    assert f"{name} is left as it was" in err
    assert err.count("\n") == 1 + err.count("oodbench: note:")
    assert (finished / name).read_text() == "the table of last week"
    assert sorted(p.name for p in finished.iterdir()) == before


def test_links_pipes_and_folders(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o600)
    (tmp_path / "link").symlink_to("real")
    write_output(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o600
    os.mkfifo(tmp_path / "pipe")
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_output(tmp_path / "pipe", b"through")
    reader.join(10)
    assert seen == [b"through"]
    write_output("/dev/null", "nothing")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OodbenchError, match="is a folder"):
        write_output(tmp_path, "x")
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.parametrize("mask", [0o077, 0o002])
def test_permissions_are_those_of_the_umask(tmp_path: Path, mask: int) -> None:
    """Everything that commands leave behind, for oneself alone or for the group."""
    old = os.umask(mask)
    try:
        for line in ("run --pair digits-photos --detector mean-intensity --quiet",
                     "leaderboard --out table.txt", "report --out page",
                     "export mean-intensity --in-dist digits --out exported --quiet",
                     "store export all.tar", "new detector my-detector"):  # fmt: skip
            status, _, err = invoke(tmp_path, *line.split())
            assert status == 0, err
    finally:
        os.umask(old)
    paths = list(tmp_path.rglob("*"))
    assert len(paths) > 40
    for path in paths:
        wanted = (0o777 if path.is_dir() else 0o666) & ~mask
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_a_mount_that_refuses_chmod_can_hold_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    for name in ("chmod", "fchmod", "lchmod"):
        monkeypatch.setattr(os, name, refuses, raising=False)
    frame = oodbench.run("digits-photos", ["mean-intensity"], store=str(tmp_path / "store"),
                         quiet=True)  # fmt: skip
    assert len(frame) == 4
    with atomic_file(tmp_path / "x", 0o600) as file:
        file.write(b"x")
    assert (tmp_path / "x").read_bytes() == b"x"
