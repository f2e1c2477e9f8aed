"""Stores at URLs: no password or signature is printed, and what fails is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest
from in_process import invoke

from oodbench.datasets.loading import find_places
from oodbench.errors import StoreError
from oodbench.store.places import shown, without_secrets
from oodbench.store.storage import LocalStorage
from oodbench.store.store import Key, Store

PASSWORD, SIGNATURE = "hunter2%21", "sig0123456789abcdef"
URL = f"vault://anna:{PASSWORD}@server/bucket/store?X-Amz-Signature={SIGNATURE}&id=42"


class NoCredentialsError(Exception):
    """As the libraries of clouds raise it: of no class that anybody could expect."""


class Vault(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """A server that refuses, and repeats what it was asked."""

    protocol = "vault"

    def _refuse(self, *arguments: Any, **named: Any) -> Any:
        raise NoCredentialsError(f"Unable to locate credentials for {URL}\nhunter2! {SIGNATURE}")

    cat_file = pipe_file = makedirs = ls = mv = info = size = _refuse


@pytest.fixture(autouse=True)
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fsspec.register_implementation("vault", Vault, clobber=True)


@pytest.mark.parametrize(
    "command",
    [("run", "--pair", "china-flower", "--detector", "png-length", "--quiet"), ("leaderboard",),
     ("store", "verify"), ("store", "gc"), ("store", "list"), ("show", "abcdef"),
     ("report", "--pictures", "0")],
    ids=lambda command: " ".join(command[:2]),
)  # fmt: skip
def test_a_server_that_refuses_is_one_line_without_secrets(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    status, out, err = invoke(tmp_path, *command, "--store", URL)
    assert status == 2
    assert err.count("\n") == 1, err
    assert "vault://…@server/bucket/store?…" in err
    for secret in (PASSWORD, "hunter2!", SIGNATURE, "anna"):
        assert secret not in out + err


@pytest.mark.parametrize("url", ["gs://bucket/store", "nosuch://anna:pw123@host/store"])
def test_a_protocol_without_its_library_is_one_line(tmp_path: Path, url: str) -> None:
    status, _, err = invoke(tmp_path, "leaderboard", "--store", url)
    assert (status, err.count("\n")) == (2, 1)
    assert "cannot open the store" in err
    assert "pw123" not in err


def test_an_empty_url_store_says_where_without_secrets(tmp_path: Path) -> None:
    url = f"memory://anna:{PASSWORD}@nowhere/x"
    out = invoke(tmp_path, "leaderboard", "--store", url)[1]
    assert "no finished run in memory://…@nowhere/x" in out


@pytest.mark.parametrize("form", ["file://{}", "file://localhost{}", "{}"])
def test_a_file_url_is_the_folder_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "a b" / "store"
    named = form.format(str(place) if form == "{}" else str(place).replace(" ", "%20"))
    Store(named).write(Key("fit", {"x": 1}), {})
    assert place.is_dir()
    assert not (tmp_path / "localhost").exists()
    storage = Store(named).storage
    assert isinstance(storage, LocalStorage)
    assert storage.root == place
    assert find_places((), named).cache == place.parent / "data"


def test_a_file_url_of_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="folder of another machine"):
        Store("file://elsewhere/p")


def test_what_is_shown_of_a_url() -> None:
    assert shown("s3://bucket/store") == "s3://bucket/store"
    assert shown("results/a@b?c") == "results/a@b?c"
    assert shown("simplecache::sftp://u:p@h/x") == "simplecache::sftp://…@h/x"
    assert without_secrets("x", "s3://b/c?k=") == "x"
    said = without_secrets(f"HTTP 403 for url={URL!r} token {SIGNATURE}", URL)
    assert SIGNATURE not in said
    assert PASSWORD not in said
