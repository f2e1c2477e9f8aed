"""Runs are found by their images and shown under the name that is asked for, everywhere."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import invoke
from PIL import Image

import oodbench
from oodbench.datasets.pairs import Pair, distinct_names, get_pair
from oodbench.errors import UnknownNameError, listed
from oodbench.flow.stored.runs import shown_as, stored_runs
from oodbench.store.store import Entry, Store

RUN = ("run", "--ood", "digits", "--detector", "mean-intensity", "--detector", "pixel-variance",
       "--quiet")  # fmt: skip


def images(folder: Path, seed: int, count: int = 40) -> None:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for number in range(count):
        image = generator.integers(10 * seed, 200, (8, 8), dtype=np.uint8)
        Image.fromarray(image).save(folder / f"{number:02}.png")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of the folder ``f``, and the folder under other names."""
    folder = tmp_path_factory.mktemp("names")
    images(folder / "f", 1)
    status, _, err = invoke(folder, *RUN, "--in-dist", "f")
    assert status == 0, err
    (folder / "link").symlink_to("f")
    for name in ("renamed", "other"):
        shutil.copytree(folder / "f", folder / "deep" / name)
    (folder / "oodbench-project" / "suites").mkdir(parents=True)
    (folder / "oodbench-project" / "pairs.yaml").write_text(
        "mypair: {in_dist: ./deep/renamed, ood: digits}\n"
    )
    (folder / "oodbench-project" / "suites" / "mine.yaml").write_text(
        "title: Mine\npairs: [mypair]\ndetectors: [mean-intensity, pixel-variance]\n"
    )
    return folder


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def numbers(text: str) -> list[tuple[str, ...]]:
    return [tuple(row[k] for k in ("detector", "metric", "value", "runs")) for row in rows(text)]


@pytest.mark.parametrize("name", ["f", "./f", "f/", "link", "deep/other", "{home}/f"])
def test_a_run_prints_its_table_under_every_spelling(home: Path, name: str) -> None:
    name = name.format(home=home)
    before = sorted(str(path) for path in (home / "results" / "store").rglob("*"))
    status, out, err = invoke(home, *RUN, "--in-dist", name)
    assert status == 0, err
    assert "Mean intensity" in out
    assert "Pixel variance" in out
    shown = {"f/": "./f"}.get(name, name)
    assert f"(ID: {shown}, OOD: digits)" in out
    assert f"{shown}: a seeded 20 % share" in " ".join(out.split())  # the notes speak of it too
    assert sorted(str(path) for path in (home / "results" / "store").rglob("*")) == before
    frame = oodbench.run(in_dist=str(home / name), ood="digits", detectors=["mean-intensity"],
                         store=home / "results" / "store", quiet=True)  # fmt: skip
    assert set(frame["pair"]) == {f"{Path(name).name}-digits"}


@pytest.mark.usefixtures("home")
class TestASecondName:
    """The pair that a project declares on the same images, in every command and view."""

    def test_leaderboards(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        plain = invoke(home, "leaderboard", "--format", "csv")[1]
        for asked in (("--pair", "mypair"), ("--suite", "mine")):
            status, out, err = invoke(home, "leaderboard", "--format", "csv", *asked)
            assert status == 0, err
            assert {row["pair"] for row in rows(out)} == {"mypair"}
            assert sorted(numbers(out)) == sorted(numbers(plain))  # a suite keeps its order
        monkeypatch.chdir(home)
        frame = oodbench.leaderboard(home / "results" / "store", pairs="mypair")
        assert set(frame["pair"]) == {"mypair"}
        assert {row["pair"] for row in rows(plain)} == {"f-digits"}

    def test_both_names_at_once(self, home: Path) -> None:
        _, out, _ = invoke(home, "leaderboard", "--format", "csv", "--pair", "mypair", "--pair",
                           "f-digits")  # fmt: skip
        assert {row["pair"] for row in rows(out)} == {"mypair", "f-digits"}

    def test_compare_figure_report_publish_export(self, home: Path) -> None:
        status, out, err = invoke(home, "compare", "mean-intensity", "pixel-variance", "--pair",
                                  "mypair", "--format", "json")  # fmt: skip
        assert status == 0, err
        assert json.loads(out)["pair"] == "mypair"
        for arguments in (
            ("figure", "densities", "--pair", "mypair", "--detector", "mean-intensity", "--out",
             "a.svg"),
            ("report", "--pair", "mypair", "--out", "page.html"),
            ("publish", "published", "--suite", "mine"),
            ("store", "export", "mine.tar", "--pair", "mypair"),
        ):  # fmt: skip
            status, _, err = invoke(home, *arguments)
            assert status == 0, (arguments, err)
        assert "mypair" in (home / "page.html").read_text()
        assert "mypair" in (home / "published" / "mine.txt").read_text()
        with tarfile.open(home / "mine.tar") as archive:
            assert len([m for m in archive.getnames() if m.startswith("run/")]) == 2

    def test_a_name_of_nothing_is_an_error_that_names_what_is_stored(self, home: Path) -> None:
        status, _, err = invoke(home, "leaderboard", "--pair", "digits-photos")
        assert status == 2
        assert "stored: f-digits" in err


# ---------------------------------------------------------------------- equal names
def test_what_is_said_of_files_is_said_of_those_that_are_there(tmp_path: Path) -> None:
    """The pixels of a run in other files: its numbers, and what was met on reading these."""
    pages = [Image.fromarray(page) for page in np.random.default_rng(3).integers(
        0, 256, (9, 8, 8), dtype=np.uint8)]  # fmt: skip
    for folder, file in (("pages", "all.tif"), ("frames", "every.gif")):
        (tmp_path / folder).mkdir()
        pages[0].save(tmp_path / folder / file, save_all=True, append_images=pages[1:])
    (tmp_path / "frames" / "notes.txt").write_text("x")
    base = ("run", "--in-dist", "digits", "--detector", "mean-intensity", "--quiet")
    assert "(all.tif)" in invoke(tmp_path, *base, "--ood", "pages")[1]
    status, out, _ = invoke(tmp_path, *base, "--ood", "frames")
    said = " ".join(out.split())
    assert status == 0
    assert "1 files ending in .txt (notes.txt)" in said
    assert "9 images are pages or frames of 1 files (every.gif)" in said
    assert "all.tif" not in said
    assert "(all.tif)" in invoke(tmp_path, *base, "--ood", "pages")[1]


def test_folders_of_equal_names_are_pairs_of_their_own(tmp_path: Path) -> None:
    images(tmp_path / "lineA" / "parts", 1)
    images(tmp_path / "lineB" / "parts", 6)
    for line, detector in (("lineA", "pixel-variance"), ("lineB", "mean-intensity")):
        status, _, err = invoke(tmp_path, "run", "--in-dist", f"{line}/parts", "--ood", "digits",
                                "--detector", detector, "--quiet")  # fmt: skip
        assert status == 0, err
    _, text, _ = invoke(tmp_path, "leaderboard", "--layout", "general")
    assert "In-distribution: lineA/parts" in text
    assert "In-distribution: lineB/parts" in text
    _, out, _ = invoke(tmp_path, "leaderboard", "--format", "csv")
    names = {row["detector"]: row["pair"] for row in rows(out)}
    assert names == {"Pixel variance": "lineA/parts-digits", "Mean intensity": "lineB/parts-digits"}
    for name in names.values():  # every name that is printed can be typed
        _, out, _ = invoke(tmp_path, "leaderboard", "--format", "csv", "--pair", name)
        assert {row["pair"] for row in rows(out)} == {name}
    _, out, _ = invoke(tmp_path, "leaderboard", "--format", "csv", "--pair", "parts-digits")
    assert {row["pair"] for row in rows(out)} == set(names.values())


def test_several_sets_of_one_name_in_one_run(tmp_path: Path) -> None:
    for line, seed in (("a", 2), ("b", 5)):
        images(tmp_path / line / "bad", seed)
    frame = oodbench.run(
        in_dist="digits", ood=[str(tmp_path / "a/bad"), str(tmp_path / "b/bad")],
        detectors=["mean-intensity"], store=tmp_path / "s", quiet=True,
    )  # fmt: skip
    assert set(frame["pair"]) == {"digits-a/bad", "digits-b/bad"}


PATHS = st.lists(st.sampled_from(["a", "b", "a-b", "c", "parts", "x"]), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)


@given(st.lists(st.tuples(PATHS, PATHS), min_size=2, max_size=5, unique=True))
def test_distinct_names_are_distinct_and_one_pair_keeps_its_name(
    pairs: list[tuple[str, str]],
) -> None:
    names = distinct_names("parts-x", pairs)
    assert len({*names.values()}) == len(pairs)
    assert distinct_names("parts-x", pairs[:1]) == {pairs[0]: "parts-x"}


def test_pairs_that_dashes_would_confuse(tmp_path: Path) -> None:
    names = distinct_names("a-b-c", [("a", "b-c"), ("a-b", "c")])
    assert names == {("a", "b-c"): "a--b-c", ("a-b", "c"): "a-b--c"}


def test_notes_are_renamed_where_they_name_a_set_and_nowhere_else(tmp_path: Path) -> None:
    record = {
        "pair": "of-images", "in_dist": "of", "ood": "images", "key": "k", "stage": "run",
        "notes": ["of: a seeded share of 20 images", "images: 3 of 20 images"],
        "duplicates": ["1 of 9 test images of images are exact copies of training images of of"],
    }  # fmt: skip
    shown = shown_as(Entry(Store(tmp_path), "run/x", record), Pair("n", "new", "./other"))  # type: ignore[arg-type]
    assert shown.record["notes"] == ["new: a seeded share of 20 images", "./other: 3 of 20 images"]
    assert shown.record["duplicates"] == [
        "1 of 9 test images of ./other are exact copies of training images of new"
    ]


def test_nothing_is_read_beside_runs_where_no_name_is_asked_for(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(home / "results" / "store")

    def refuse(*_: object) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(Store, "get", refuse)
    assert len(stored_runs(store).runs) == 2
    assert os.path.isdir(home)


# ---------------------------------------------------------------------- own folders in suites
SUITE = """
scale: smoke
pairs:
  - {in_dist: lineA/parts, ood: scratch}
  - {in_dist: lineB/parts, ood: scratch, reading: The second line.}
  - {in_dist: scratch, ood: digits, name: scratched}
  - scratch-lineless
detectors: [mean-intensity, pixel-variance]
"""


def test_a_suite_names_own_folders_in_run_and_leaderboard_alike(tmp_path: Path) -> None:
    for seed, name in enumerate(("lineA/parts", "lineB/parts", "scratch", "lineless"), start=1):
        images(tmp_path / name, seed)
    (tmp_path / "own.yaml").write_text(SUITE)
    status, out, err = invoke(tmp_path, "run", "--suite", "own.yaml", "--quiet")
    assert status == 0, err
    named = ["lineA/parts-scratch", "lineB/parts-scratch", "scratched", "scratch-lineless"]
    assert [line.split(" (ID")[0].strip() for line in out.splitlines() if " (ID: " in line] == named
    assert "The second line." in out
    dry = invoke(tmp_path, "run", "--suite", "own.yaml", "--dry-run")
    assert dry[:2] == (0, "nothing is missing\n")
    status, out, err = invoke(
        tmp_path, "leaderboard", "--suite", "own.yaml", "--format", "csv", "--shape", "tidy"
    )
    assert status == 0, err
    assert list(dict.fromkeys(row["pair"] for row in rows(out))) == named
    assert {row["detector"] for row in rows(out)} == {"Mean intensity", "Pixel variance"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        frame = oodbench.run(suite="own.yaml", quiet=True)
    assert list(frame.pair.unique()) == named
    for name in ("lineA", "lineB"):  # another project's folders of the same names
        (tmp_path / "elsewhere" / name).mkdir(parents=True)
    shutil.move(tmp_path / "lineB" / "parts", tmp_path / "moved")
    status, out, err = invoke(tmp_path, "leaderboard", "--suite", "own.yaml", "--format", "csv")
    assert list(dict.fromkeys(row["pair"] for row in rows(out))) == named, "found as it was named"


def test_a_suite_whose_folders_are_not_there_names_them(tmp_path: Path) -> None:
    suite = tmp_path / "own.yaml"
    suite.write_text("pairs: [{in_dist: gone/, ood: digits}]\ndetectors: [png-length]\n")
    status, _, err = invoke(tmp_path, "run", "--suite", "own.yaml", "--quiet")
    assert status == 2
    assert "gone" in err
    for pairs, why in (
        ("[{in_dist: a/}]", "pair 1: the key 'ood' is missing"),
        ("[{in_dist: a/, ood: b/, nam: c}]", "unknown key in own.yaml: pair 1 'nam'"),
        ("[{in_dist: a/, ood: b/}, {in_dist: a/, ood: b/}]", "two of its pairs have one name"),
        ("[a-b, {in_dist: c/, ood: d/, name: a-b}]", "two of its pairs have one name"),
        ("[3]", "'pairs' must be a list of names or mappings"),
    ):
        suite.write_text(f"pairs: {pairs}\ndetectors: [png-length]\n")
        status, _, err = invoke(tmp_path, "run", "--suite", "own.yaml", "--quiet")
        assert (status, why in err) == (2, True), err


def test_a_printed_pair_of_folders_can_be_typed(tmp_path: Path) -> None:
    images(tmp_path / "a", 1)
    images(tmp_path / "b-c", 2)
    status, out, err = invoke(tmp_path, "run", "--pair", "a-b-c", "--detector", "png-length",
                              "--quiet")  # fmt: skip
    assert status == 0, err
    assert "a-b-c (ID: a, OOD: b-c)" in out
    images(tmp_path / "a-b", 3)
    images(tmp_path / "c", 4)
    status, _, err = invoke(tmp_path, "run", "--pair", "a-b-c", "--detector", "png-length")
    assert status == 2
    assert "--in-dist a --ood b-c or --in-dist a-b --ood c" in err


def test_a_list_that_is_cut_ends_with_an_ellipsis() -> None:
    assert listed("abc", 3) == "a, b, c"
    assert listed("abcd", 3) == "a, b, c, …"
    with pytest.raises(UnknownNameError, match=r"nearest: cifar10-svhn, .*, …"):
        get_pair("cifar10-svhm")


def test_the_label_of_a_table_says_which_it_is(home: Path) -> None:
    latex = ("leaderboard", "--layout", "general", "--format", "latex")
    for more, label in (
        (("--suite", "mine"), "mine"), (("--pair", "f-digits"), "f-digits"), ((), "f-digits"),
    ):  # fmt: skip
        status, out, err = invoke(home, *latex, *more)
        assert status == 0, err
        assert re.findall(r"\\label\{(.*?)\}", out) == [f"tab:{label}"]
