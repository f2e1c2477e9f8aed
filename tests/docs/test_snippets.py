"""Every command and every snippet of every page runs; one test per page."""

from __future__ import annotations

from pathlib import Path

import pytest
from pagerunner import Page, snippets

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if snippets(page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_snippets_of_a_page_run(page: Path, tmp_path: Path) -> None:
    with Page(tmp_path) as running:
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
    3
    $ cat said.txt
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
```python
open("kept.txt", "w").write(first)
```
"""


def test_snippets_are_found_and_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OODBENCH_DATA", raising=False)
    found = snippets(EXAMPLE)
    assert [(s.kind, s.data) for s in found] == [
        ("file", False), ("console", False), ("python", False), ("python", True),
        ("console", True), ("python", False),
    ]  # fmt: skip
    assert len(found[1].commands) == 2
    with Page(tmp_path) as page:
        for snippet in found:
            page.run(snippet)
        with pytest.raises(AssertionError, match=r"line 1: \$ false"):
            page.run(snippets("```console\n$ false\n```")[0])
        with pytest.raises(AssertionError, match="NameError"):
            page.run(snippets("```python\nabsent\n```")[0])
    assert (tmp_path / "kept.txt").read_text() == "3\n"


def test_a_data_snippet_runs_where_there_are_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODBENCH_DATA", str(tmp_path))
    with Page(tmp_path) as page:
        page.run(snippets("```console data\n$ touch ran\n```")[0])
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("text", ["```python\nx = 1\n", "```console dta\n$ true\n```"])
def test_a_wrong_fence_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        snippets(text)
