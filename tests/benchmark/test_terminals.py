"""Every command prints on every encoding and width; a reader who leaves is no error."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from oodbench.cli import main, oodbench
from oodbench.output_encoding import PLAIN, in_full, plain, prepare, spelled
from oodbench.store.store import Store

#: Of names of people, which keep their letters, and what formulas in comments are written in.
LETTERS = {chr(code) for code in range(0xC0, 0x180)} - set("×÷") | set("\u0304ᵀ∂∇∝⌈⌉⌊⌋")
OODBENCH = [sys.executable, "-c", "from oodbench.cli import main; main()"]
ENCODINGS = ("ascii", "latin-1", "cp1252", "utf-8")


def encoded(folder: Path, encoding: str, *arguments: str) -> tuple[int, bytes, bytes]:
    """Status, output and error of `oodbench …` on streams of a strict encoding."""
    raw = [io.BytesIO(), io.BytesIO()]
    out, err = (io.TextIOWrapper(one, encoding=encoding, errors="strict") for one in raw)
    status = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["oodbench", *arguments])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        out.flush()
        err.flush()
    prepare()
    return status, raw[0].getvalue(), raw[1].getvalue()


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command of the tree."""
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a few commands ran."""
    folder = tmp_path_factory.mktemp("terminal")
    for arguments in (
        ("run", "--pair", "digits-photos", "--scale", "smoke", "--detector", "vanilla-hvae",
         "--detector", "mean-intensity", "--quiet"),
        ("export", "mean-intensity", "--pair", "digits-photos", "--out", "exported", "--quiet"),
    ):  # fmt: skip
        assert encoded(folder, "utf-8", *arguments)[0] == 0
    return folder


PRINTING = [
    ("run", "--pair", "digits-photos", "--scale", "smoke", "--detector", "vanilla-hvae",
     "--detector", "mean-intensity"),
    ("run", "--pair", "digits-photos", "--dry-run"),
    ("leaderboard",),
    ("leaderboard", "--columns", "cost,diagnostics,trivial"),
    *(("leaderboard", "--format", format_) for format_ in ("csv", "latex", "markdown", "html")),
    ("leaderboard", "--layout", "table8", "--compare", "paper"),
    ("compare", "mean-intensity", "vanilla-hvae:ELBO", "--pair", "digits-photos"),
    ("list", "pairs"), ("list", "datasets"), ("list", "detectors"), ("list", "suites"),
    ("list", "recipes"), ("data", "status"), ("check", "mean-intensity"),
    ("diagnose", "vanilla-hvae", "--pair", "digits-photos", "--images", "20"),
    ("figure", "roc", "--pair", "digits-photos", "--out", "roc.svg"),
    ("report", "--out", "page"), ("store", "verify"), ("store", "gc", "--dry-run"),
    ("score", "exported", "missing.png"), ("run", "--pair", "digits-phötos"),
    ("new", "detector", "a-→-b"), ("new", "package", "é"),
    ("new", "slurm", "--pair", "digits-photos"), ("status", "--pair", "digits-photos"),
    ("data", "info", "digits"), ("data", "fetch", "digits"),
    *(("sweep", kind, "--in-dist", "digits", "--ood", "photos@resize", "--scale", "smoke",
       "--dry-run", *words) for kind, words in (
           ("allocation", ()), ("recipe", ("--set", "training.lr=1e-3,2e-3")))),
    ("scores", "mean-intensity", "--pair", "digits-photos"), ("store", "list"),
    ("export", "mean-intensity", "--pair", "digits-photos", "--out", "again"),
    ("show", "{run}"), ("why", "{run}", "{other}"), ("store", "remove", "{run}"),
    ("store", "export", "all.tar"), ("store", "import", "all.tar", "--store", "other"),
    ("publish", "out", "--suite", "embedded", "--scale", "smoke"),
]  # fmt: skip


def test_every_command_is_among_them() -> None:
    groups = {path[:1] for path in commands(oodbench) if len(path) > 1}
    names = {path for path in commands(oodbench) if path not in groups}
    assert names == {
        path for path in names if any(words[: len(path)] == path for words in PRINTING)
    }  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODINGS[:3])
def test_every_command_prints_in_the_characters_that_there_are(home: Path, encoding: str) -> None:
    runs = [entry.digest for entry in Store(home / "results" / "store").entries("run")]
    for words in [*PRINTING, *((*path, "--help") for path in commands(oodbench))]:
        arguments = [word.format(run=runs[0], other=runs[1]) for word in words]
        status, out, err = encoded(home, encoding, *arguments)
        assert status in (0, 2), (arguments, err)
        assert b"Traceback" not in err, arguments
        escaped = re.findall(rb"\\u[0-9a-f]{4}", out)
        assert {chr(int(code[2:], 16)) for code in escaped} <= LETTERS, arguments
        if encoding != "ascii":
            continue
        assert max([*out, *err], default=0) < 128, arguments


def test_the_plain_table_is_the_framed_one_letter_for_letter(home: Path) -> None:
    _, framed, _ = encoded(home, "utf-8", "leaderboard")
    _, plainly, _ = encoded(home, "ascii", "leaderboard")
    rows = [line[1:] for line in framed.decode().splitlines() if line.startswith("│")]
    others = [line[1:] for line in plainly.decode("ascii").splitlines() if line.startswith("|")]
    words = [re.findall(r"[\w.]+", row) for row in rows]
    assert words == [w for row in others if (w := re.findall(r"[\w.]+", row)) in words]
    widths = {len(line) for line in plainly.decode("ascii").split("Models")[0].splitlines()
              if line[:1] in "+|"}  # fmt: skip
    assert len(widths) == 1  # on line, words instead of arrows included
    assert b"AUROC (up)" in plainly


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_character_that_is_printed_has_a_plain_form(encoding: str) -> None:
    """All that the source and the declarations write, and accents, Greek and names of anybody."""
    root = Path(__file__).parents[2]
    files = [*root.glob("benchmark/**/*.py"), *root.glob("baselines/*.py"),
             *root.glob("benchmark/declare/**/*.yaml")]  # fmt: skip
    written = {char for file in files for char in file.read_text(encoding="utf-8")}
    marks = {c for c in written if ord(c) > 127 and c.isprintable()} - set("＝＋－＠")
    for char in marks | set("éüñŁ") | set(PLAIN):
        text = plain(char, encoding)
        assert text.encode(encoding)
        if char in PLAIN:
            assert not text.startswith("\\"), char
    unspelled = {c for c in marks if plain(c, "ascii").startswith("\\")}
    assert unspelled <= LETTERS, unspelled


def test_names_with_other_letters_stay_apart() -> None:
    assert len({"".join(plain(c, "ascii") for c in "caf" + e) for e in "éèê"}) == 3


def test_a_file_is_written_in_full_on_a_poor_terminal(home: Path) -> None:
    assert encoded(home, "ascii", "leaderboard", "--out", "t.txt")[:2] == (0, b"")
    assert "│" in (home / "t.txt").read_text(encoding="utf-8")
    with in_full():
        assert spelled("↑") == "↑"


def on_terminal(folder: Path, width: int, *arguments: str) -> str:
    """What `oodbench …` writes to a terminal of so many columns."""
    master, slave = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [*OODBENCH, *arguments], cwd=folder, stdin=slave, stdout=slave, stderr=slave,
        env=environment | {"TERM": "xterm"}, close_fds=True,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 1 << 16)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        shown += part
    assert process.wait(60) == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r\n", "\n")


def numbers(text: str, rows: str = "│") -> set[str]:
    return {
        n
        for line in text.splitlines()
        if line.startswith(rows)
        for n in re.findall(r"\d+\.\d", line)
    }


def test_a_narrow_terminal_leaves_columns_out_and_says_so(home: Path) -> None:
    whole = on_terminal(home, 80, "leaderboard", "--wide")
    narrow = on_terminal(home, 80, "leaderboard")
    assert max(map(len, narrow.splitlines())) <= 80 < max(map(len, whole.splitlines()))
    said = "left out on this width (--wide shows all): FPR80 ↓, FPR95 ↓"
    assert said in " ".join(narrow.split())
    assert "FPR80 ↓" in whole
    assert "left out" not in whole
    assert numbers(narrow) < numbers(whole)  # whole numbers, none cut in two


def test_lists_go_on_in_next_lines_and_lose_no_word(home: Path) -> None:
    whole = on_terminal(home, 400, "list", "detectors")
    for width in (80, 100, 120):
        shown = on_terminal(home, width, "list", "detectors")
        assert max(map(len, shown.splitlines())) <= width
        assert sorted(shown.split()) == sorted(whole.split())
    first = [line.split()[0] for line in whole.splitlines() if line.strip()]
    assert [line.split()[0] for line in shown.splitlines() if line[:1].strip()] == first


@pytest.mark.parametrize("forced", ["0", "1"])
def test_a_pipe_gets_all_columns_also_where_colours_are_forced(
    home: Path, forced: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encoded(home, "utf-8", "leaderboard")[1].decode()
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("FORCE_COLOR", forced)
    monkeypatch.setenv("COLUMNS", "60")
    coloured = encoded(home, "utf-8", "leaderboard")[1].decode()
    shown = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert numbers(shown) == numbers(whole)
    assert "left out" not in shown


def test_the_general_layout_fits_too(home: Path) -> None:
    arguments = ("leaderboard", "--layout", "general", "--columns", "cost,trivial")
    narrow = on_terminal(home, 80, *arguments)
    assert max(map(len, narrow.splitlines())) <= 80
    assert "Left out on this width (--wide shows all):" in narrow
    assert max(map(len, on_terminal(home, 80, *arguments, "--wide").splitlines())) > 80


def test_a_reader_that_leaves_is_no_error(home: Path) -> None:
    text = f"{sys.executable} -c 'from oodbench.cli import main; main()' list recipes | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", text], cwd=home, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"RECIPE")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(home: Path, closed: str, tmp_path: Path) -> None:
    """And no file of the store becomes standard output."""
    run = "run --pair china-flower --detector mean-intensity"
    text = f"{sys.executable} -c 'from oodbench.cli import main; main()' {run} {closed}"
    done = subprocess.run(["bash", "-c", text], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    verdict = subprocess.run([*OODBENCH, "store", "verify"], cwd=tmp_path, capture_output=True)
    assert verdict.returncode == 0, verdict.stderr


def test_a_full_disk_behind_standard_output_is_one_line(home: Path) -> None:
    text = f"{sys.executable} -c 'from oodbench.cli import main; main()' leaderboard > /dev/full"
    done = subprocess.run(["bash", "-c", text], cwd=home, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


def test_what_cannot_be_done_comes_before_what_was_done(home: Path) -> None:
    """On one screen: the failure, then what is missing, and never "nothing is missing"."""
    told = [*OODBENCH, "run", "--in-dist", "china", "--ood", "flower", "--ood", "nowhere",
            "--detector", "mean-intensity", "--dry-run"]  # fmt: skip
    both = subprocess.run(told, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True)  # fmt: skip
    assert both.returncode == 2
    assert both.stdout.startswith("oodbench: error: unknown data set 'nowhere'")
    for suite in ("table2", "table9"):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OODBENCH")}
        done = subprocess.run([*OODBENCH, "run", "--suite", suite, "--dry-run"], cwd=home,
                              env=environment, capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 2
        assert "nothing is missing" not in done.stdout
        assert "not found" in done.stderr


def test_a_reader_that_leaves_hides_no_failure(home: Path) -> None:
    text = (
        f"{sys.executable} -c 'from oodbench.cli import main; main()' run --in-dist china --ood"
        " flower --ood nowhere --detector mean-intensity --quiet | true"
    )
    done = subprocess.run(["bash", "-o", "pipefail", "-c", text], cwd=home, capture_output=True)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
