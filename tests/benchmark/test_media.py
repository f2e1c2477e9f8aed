"""Names of other people, in every medium: shown as they were given, never obeyed."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import string
import subprocess
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import invoke

import oodbench
from oodbench.cli.options import console
from oodbench.datasets.imageset import ImageSet
from oodbench.detect.detector import DETECTORS
from oodbench.media import (
    LATEX,
    csv_cell,
    displayed,
    html_text,
    latex,
    markdown,
    terminal,
    terminal_lines,
)
from oodbench.store.store import Store
from oodbench.tables.render.console import Boxed

#: What must not reach a reader as it is: controls, marks of the reading order, separators, halves.
MOVES = {"Cc", "Cs", "Zl", "Zp"}
BIDI = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
GREEK = [
    char
    for char in map(chr, range(0x391, 0x3CA))
    if char.isalpha() and "WITH" not in unicodedata.name(char)
]
HARM = (
    "a\x1b[2J\x1b]8;;http://evil\x07b",  # clears the screen, makes a link
    "c\x9b31md",  # the same in C1
    "gpj\u202egnp.exe",  # read from right to left
    "fashionmnist[bag,coat]",
    "[/x] [link=http://evil]here[/link] :smile:",
    "=HYPERLINK(\"http://evil\")",
    "@sum", "+1+cmd|'/C calc'!A0", "-2+3+cmd|' /C calc'!A0", "\tx", "\r=1",
    r"$\frac{$ \write18{x} & % # ~ ^ | \input{/etc/passwd}",
    "caf\udce9.png",
    "line\nbreak\u2028and\u2029more",
    "<script>x</script>",
)  # fmt: skip


def moves(text: str, allowed: str = "") -> list[str]:
    """Characters that do something instead of being seen."""
    return [
        char
        for char in text
        if char not in allowed
        and (
            unicodedata.category(char) in MOVES
            or unicodedata.bidirectional(char) in BIDI
            or char in "\u200e\u200f\u061c"
        )
    ]


TEXTS = st.text(max_size=30) | st.text(
    st.sampled_from("=+-@'$\\{}[]/a1 \x1b\x07\x9b\u202e\u2066\ud800\n\t\r,\"<&|"), max_size=20
)


@given(TEXTS)
def test_no_medium_lets_a_character_act(text: str) -> None:
    for shown in (fit(text) for fit in (terminal, csv_cell, latex, markdown)):
        assert not moves(shown)
        shown.encode()
    assert not moves(terminal_lines(text), "\n\t")
    assert not moves(html_text(text))
    assert terminal(terminal(text)) == terminal(text)


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=30))
def test_what_prints_is_shown_as_it_was_given(text: str) -> None:
    assert terminal(text) == text
    assert terminal_lines(text) == text
    assert csv_cell(text).removeprefix("'") == text.removeprefix("'")


@given(TEXTS)
def test_html_and_csv_give_the_text_back(text: str) -> None:
    """Read by a parser of the medium, a text is what a terminal shows."""
    seen: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            seen.append(f"tag {tag}" if tag != "p" else "")

        def handle_data(self, data: str) -> None:
            seen.append(data)

    reader = Reader()
    reader.feed(f"<p>{html_text(text)}</p>")
    reader.close()
    assert "".join(seen) == terminal(text)
    out = io.StringIO()
    csv.writer(out).writerow([csv_cell(text), "end"])
    out.seek(0)
    assert next(csv.reader(out)) == [csv_cell(text), "end"]


@given(st.sampled_from("=+-@"), TEXTS)
def test_no_cell_of_text_is_a_formula(first: str, rest: str) -> None:
    cell = csv_cell(first + rest)
    try:
        float(cell)
    except ValueError:
        number = cell[1:2].isdigit() and not set(cell) & set("=@|!'()")
        words = cell[0] == "-" and not set(cell) & set("=@|!'()0123456789+*/,;$")
        assert cell[0] == "'" or number or words


@pytest.mark.parametrize(
    "text",
    [
        "-0.5",
        "+3",
        "-1.25e-3",
        "-0.5 ± 0.1",
        "-1.0 [-2.0, 0.5]",
        "84.1",
        "-",
        "-WAIC",
        "- non-VAE:",
    ],
)
def test_numbers_stay_numbers(text: str) -> None:
    assert csv_cell(text) == text
    assert csv_cell(-0.5) == -0.5  # type: ignore[comparison-overlap]


def test_latex_sets_hostile_names_as_text(tmp_path: Path) -> None:
    """A real engine, told to stop at the first error, with every command allowed that it has."""
    engine = next((e for e in ("pdflatex", "lualatex") if shutil.which(e)), None)
    if engine is None:
        pytest.skip("no LaTeX (pdflatex or lualatex) is installed")
    (tmp_path / "secret.tex").write_text("INPUT-WAS-READ")
    names = (*HARM, r"\input{secret}", r"\immediate\write18{touch written}", "^^5cinput secret",
             *string.punctuation, *LATEX, *GREEK, "‖∇ₓ log p(x)‖₂ ≤ 10⁻¹²", "xᵢ₊₁ⁿ")  # fmt: skip
    body = "\n\n".join(f"x {latex(name)} x" for name in names)
    (tmp_path / "all.tex").write_text(
        f"\\documentclass{{article}}\n\\begin{{document}}\n{body}\n\\end{{document}}\n",
        encoding="utf-8",
    )
    options = ["-shell-escape", "-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([engine, *options, "all.tex"], cwd=tmp_path, capture_output=True,
                          text=True, errors="replace", timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert "secret.tex" not in (tmp_path / "all.log").read_text(errors="replace")
    assert not (tmp_path / "written").exists()


def test_every_character_of_our_tables_has_a_form_in_latex() -> None:
    """Titles, scores, notes and labels; accents are part of LaTeX's own UTF-8."""
    detectors = [DETECTORS.get(name) for name in DETECTORS.names()]
    texts = [text for cls in detectors for text in (cls.title, cls.cite, *cls.score_patterns)]
    for folder in ("layouts", "recipes", "suites"):
        files = (Path(oodbench.__file__).parent / "declare" / folder).glob("*.yaml")
        texts += [path.read_text("utf-8") for path in files]
    for name in ("head_to_head", "rows", "significance_marks"):
        module = Path(oodbench.__file__).parent / "leaderboards" / f"{name}.py"
        texts.append(module.read_text("utf-8"))
    used = {char for text in texts for char in text if ord(char) > 127}
    assert "λ" in used
    latin = {char for char in used if char.isalpha() and ord(char) < 0x180}
    assert sorted(used - set(LATEX) - latin) == []


def test_mathematics_is_set_as_mathematics() -> None:
    assert latex("∇ₓγ") == r"$\nabla$$_{x}$$\gamma$"
    assert latex("ΛΑλο₋₁ⁿ") == r"$\Lambda$$A$$\lambda$$o$$_{-}$$_1$$^{n}$"
    assert all(latex(char).isascii() for char in GREEK)


@given(TEXTS)
def test_latex_reads_no_command(text: str) -> None:
    """Without the pieces that stand for one character each, nothing is left that is a command."""
    known = sorted((v for v in LATEX.values() if set(v) & set("\\$~")), key=len, reverse=True)
    pieces = [r"\$(?:\\[A-Za-z]+|[_^]\{[^{}$]*\}|[A-Zo])\$", *map(re.escape, known)]
    shown = re.sub("|".join(pieces), "", latex(text))  # from left to right, as LaTeX reads
    assert not set(shown) & set("\\{}$&%#~^_")


@pytest.mark.parametrize("width", [40, 400])
@pytest.mark.parametrize("name", HARM)
def test_a_table_on_the_console_shows_the_name(name: str, width: int) -> None:
    printer = console(to_file=True)
    printer.width = width
    with printer.capture() as captured:
        table = Boxed(name, [(name, "left"), ("b", "right")], f"of {name}", no_wrap=False)
        table.add(name, "1")
        printer.print(table)
        printer.print(terminal(name))
    text = captured.get()
    assert not moves(text, "\n")
    squeezed = "".join(char for char in text if not char.isspace() and char not in "│┃")
    assert squeezed.count("".join(terminal(name).split())) >= (5 if width == 400 else 1)


# ---------------------------------------------------------------------- a whole store of them
@pytest.fixture(scope="module")
def harmful(
    tmp_path_factory: pytest.TempPathFactory, embedded_sets: tuple[ImageSet, ImageSet],
    make_run: Callable[..., str],
) -> Path:  # fmt: skip
    folder = tmp_path_factory.mktemp("harmful")
    store = Store(folder / "results" / "store")
    for number, name in enumerate(HARM[:-1]):
        name = name.encode(errors="replace").decode()  # what a record can hold
        make_run(store, embedded_sets, f"d{number}", {"L": 0.9, name: 0.2}, pair=name, title=name,
                 recipe=name, notes=[name], in_dist=name, ood=f"{name}!")  # fmt: skip
    return folder


@pytest.mark.parametrize("format_", ["table", "csv", "json", "latex", "markdown", "html"])
@pytest.mark.parametrize("layout", [(), ("--layout", "general")])
def test_a_leaderboard_of_hostile_names(
    harmful: Path, format_: str, layout: tuple[str, ...]
) -> None:
    status, out, err = invoke(harmful, "leaderboard", "--format", format_, *layout)
    assert status == 0, err
    assert not moves(out + err, "\n")
    if format_ == "csv":
        cells = [cell for row in csv.reader(io.StringIO(out)) for cell in row]
        assert not [cell for cell in cells if cell[:1] in ("=", "@", "\t", "\r")]
        assert any(cell.startswith("'=HYPERLINK") for cell in cells)
    if format_ == "table":
        assert "fashionmnist[bag,coat]" in out
        assert "[/x] [link=http://evil]here[/link] :smile:" in " ".join(out.split())
    if format_ == "json":
        json.loads(out)


@pytest.mark.parametrize("kind", ["densities", "forest"])
def test_a_figure_of_hostile_names_is_drawn(harmful: Path, tmp_path: Path, kind: str) -> None:
    for pair in (HARM[0], HARM[-4], HARM[3]):
        status, _, err = invoke(harmful, "figure", kind, "--pair", pair, "--detector",
                                f"d{HARM.index(pair)}",
                                "--out", str(tmp_path / "x.svg"))  # fmt: skip
        assert status == 0, err
        text = "".join(ElementTree.parse(tmp_path / "x.svg").getroot().itertext())
        assert not moves(text, "\n\t")


def test_a_report_of_hostile_names_shows_them(harmful: Path) -> None:
    status, out, err = invoke(harmful, "report", "--out", "page.html")
    assert status == 0, err
    page = (harmful / "page.html").read_text(encoding="utf-8")
    assert not moves(page, "\n\t")
    assert "\\\\u202e" in page  # in JSON, as the six characters that are shown
    assert not moves(out, "\n")


def test_a_json_value_is_shown_throughout() -> None:
    assert displayed({"a": ["\x1b", {"b": "\u202e"}, 1, None]}) == {
        "a": ["\\u001b", {"b": "\\u202e"}, 1, None]
    }


@pytest.mark.parametrize("name", [HARM[0], HARM[1], HARM[2], HARM[4]])
def test_errors_and_notes_show_what_they_name(tmp_path: Path, name: str) -> None:
    for arguments in (("run", "--pair", name), ("list", "detectors", name), ("show", name),
                      ("run", "--in-dist", name, "--ood", "digits"), ("new", name),
                      ("leaderboard", "--pair", name)):  # fmt: skip
        status, out, err = invoke(tmp_path, *arguments)
        assert status == 2 or arguments[0] == "leaderboard"
        assert not moves(out + err, "\n")
