"""Every command and every snippet of every page runs and prints what is shown; a test per page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pagerunner import Page, page_environment, snippets
from shown_output import agrees
from warm import Warm

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if snippets(page.read_text(encoding="utf-8"))
]
#: Pages that show nothing of their store, and so may find there what other tests have trained.
SHARING = {ROOT / "docs" / "diffusion.md", ROOT / "docs" / "dvp.md"}


@pytest.fixture(scope="module")
def tools() -> Iterator[Path]:
    """An `oodbench` that need not import torch each time."""
    with Warm(page_environment()) as warm:
        yield warm.bin


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_snippets_of_a_page_run(page: Path, tools: Path, trained: Path, tmp_path: Path) -> None:
    with Page(tmp_path, tools, store=trained if page in SHARING else None) as running:
        for snippet in snippets(page.read_text(encoding="utf-8")):
            running.run(snippet)


EXAMPLE = """
```python title="sub/made.py"
value = 3
```

```text
$ false
```

1. in a list

    ```console
    $ python -c "import sys; sys.path.insert(0, 'sub'); import made; \\
    print(made.value)" > said.txt
    $ cat said.txt
    3
    ```

```python
import os
first = open("said.txt").read()
```
```python data
raise RuntimeError("needs data")
```
````console data
$ exit 7
````
```console long
$ oodbench run --pair fashionmnist-mnist --seeds 5
```
```python
open("kept.txt", "w").write(first)
```
"""


def test_snippets_are_found_and_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OODBENCH_DATA", raising=False)
    found = snippets(EXAMPLE)
    assert [(s.kind, sorted(s.words)) for s in found] == [
        ("file", []), ("console", []), ("python", []), ("python", ["data"]),
        ("console", ["data"]), ("console", ["long"]), ("python", []),
    ]  # fmt: skip
    assert [(step.shown, step.last) for step in found[1].steps] == [("", 14), ("3", 15)]
    with Page(tmp_path) as page:
        for snippet in found:
            page.run(snippet)
        for text, why in (
            ("```console\n$ false\n```", r"line 2: \$ false"),
            ("```console\n$ echo 1\n2\n```", "the page shows"),
            ("```console long\n$ oodbench run --sead 1\n```", "no option --sead"),
            ("```python\nabsent\n```", "NameError"),
        ):
            with pytest.raises(AssertionError, match=why):
                page.run(snippets(text)[0])
    assert (tmp_path / "kept.txt").read_text() == "3\n"


@pytest.mark.parametrize(
    ("shown", "printed", "moving", "right"),
    [
        ("AUROC 51.5", "AUROC  51.5\n", False, True),
        ("AUROC 51.5", "AUROC 51.6", False, False),
        ("AUROC 51.5 [1, 2]", "AUROC 7.25 [-3, 1e-9]", True, True),
        ("AUROC 51.5 [1, 2]", "AUROC 7.25", True, False),
        ("┃a ┃ b┃\n│1│ 2│", "│ a │ b │\n├───┼───┤\n│ 1 │ 2 │", False, True),
        ("first\n…", "first\nsecond\nthird", False, True),
        ("first\n…\nthird", "first\nsecond\nfourth", False, False),
        ("a\n…\nc\n…\ne", "a b c d e", False, True),
        ("a\n…\nd\n…\nc\n…", "a b c d e", False, False),
        ("key 3f…", "key 3fab12", False, True),
        ("key 3f…", "key 4fab12", False, False),
        ("shown", "", False, False),
    ],
)
def test_shown_output_is_held_against_what_was_printed(
    shown: str, printed: str, moving: bool, right: bool
) -> None:
    assert agrees(shown, printed, moving=moving) is right


def test_the_warm_process_is_a_process_for_every_command(tools: Path, tmp_path: Path) -> None:
    with Page(tmp_path, tools) as page:
        for text in (
            "```console\n$ oodbench list pairs | grep PAIR\nPAIR ID OOD TABLES\n```",
            "```console\n$ oodbench run --pair china || test $? = 2\noodbench: error: …\n```",
            "```python\nimport os; os.chdir('/'); os.environ['OODBENCH_STORE'] = 'gone'\n```",
            "```console\n$ oodbench leaderboard\nno finished run in results/store; …\n```",
        ):
            page.run(snippets(text)[0])
