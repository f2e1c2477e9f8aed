"""The snippets of a Markdown page, and how they are run: in order, in one folder.

A fence says what becomes of it:

    ```python title="mine.py"     any language with a title: the file is written, not run
    ```python                     runs in the one Python process of the page
    ```console                    lines after "$ " are commands of bash, the rest is their output,
                                  which is compared; "…" stands for anything
    ```console moving             numbers of the output may differ
    ```console data               as above, only where OODBENCH_DATA names real image sets
    ```console long               takes long, or a network: names and options are checked alone
    anything else                 is shown only
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from advice import commands_in, refusal
from shown_output import agrees

FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^`\n]*)$")
TITLE = re.compile(r'\btitle="(?P<title>[^"]+)"')
RUN = {"python": {"data"}, "console": {"data", "moving", "long"}}
#: Runs blocks sent as lines of JSON in one namespace, and answers each with what it raised.
DRIVER = """
import json, linecache, os, sys, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
space = {"__name__": "__main__"}
for line in sys.stdin:
    block = json.loads(line)
    linecache.cache[block["name"]] = (len(block["code"]), None,
                                      block["code"].splitlines(True), block["name"])
    failure = ""
    try:
        exec(compile(block["code"], block["name"], "exec"), space)
    except BaseException:
        failure = traceback.format_exc()
    answers.write(json.dumps(failure) + chr(10))
    answers.flush()
"""


@dataclass(frozen=True)
class Step:
    """A command of a console; the output that is shown stands below line `last` of the page."""

    command: str
    shown: str
    last: int


@dataclass(frozen=True)
class Snippet:
    """One fence: `kind` is "file", "python" or "console"; `line` is where it stands."""

    kind: str
    text: str
    line: int
    title: str = ""
    words: frozenset[str] = field(default_factory=frozenset)

    @property
    def steps(self) -> list[Step]:
        """The commands of a console; a line that ends with a backslash goes on in the next."""
        found: list[tuple[list[str], list[str], int]] = []
        more = False
        for number, line in enumerate(self.text.splitlines(), start=self.line + 1):
            if more or line.startswith("$ "):
                before = found.pop()[0] if more else []
                found.append(([*before, line if more else line[2:]], [], number))
                more = line.endswith("\\")
            elif found:
                found[-1][1].append(line)
        return [Step("\n".join(c), "\n".join(shown), last) for c, shown, last in found]


def snippets(markdown: str) -> list[Snippet]:
    """What a page writes and runs, in order; ValueError on a fence that is not closed."""
    found: list[Snippet] = []
    lines = iter(enumerate(markdown.splitlines(), start=1))
    for number, line in lines:
        opening = FENCE.match(line)
        if opening is None:
            continue
        body = _body(lines, opening, number)
        words = TITLE.sub("", opening["info"]).split()
        title = TITLE.search(opening["info"])
        if title is not None:
            found.append(Snippet("file", body, number, title["title"]))
        elif words and words[0] in RUN:
            if unknown := set(words[1:]) - RUN[words[0]]:
                raise ValueError(f"line {number}: a fence does not know {', '.join(unknown)}")
            found.append(Snippet(words[0], body, number, words=frozenset(words[1:])))
    return found


def shown_only(markdown: str, kinds: tuple[str, ...] = ("", "text")) -> list[str]:
    """The blocks of these kinds that are neither written nor run."""
    found = []
    lines = iter(enumerate(markdown.splitlines(), start=1))
    for number, line in lines:
        opening = FENCE.match(line)
        if opening is not None:
            body = _body(lines, opening, number)
            kind = opening["info"].partition(" ")[0].strip()
            if not TITLE.search(opening["info"]) and kind in kinds:
                found.append(body)
    return found


def _body(lines: Iterator[tuple[int, str]], opening: re.Match[str], number: int) -> str:
    indent, ticks, body = len(opening["indent"]), opening["ticks"], []
    for _, line in lines:
        if line.strip() == ticks:
            return "\n".join(body) + "\n"
        body.append(line[indent:] if not line[:indent].strip() else line)
    raise ValueError(f"line {number}: this fence is not closed")


class Page:
    """Runs the snippets of one page in `folder`; use as a context manager.

    `tools` is a folder with an `oodbench` and a `page-python` that go before those of the
    environment (see `warm`); `store` takes the place of the one in the folder.
    """

    def __init__(
        self,
        folder: Path,
        tools: Path | None = None,
        timeout: float = 300.0,
        store: Path | None = None,
    ) -> None:
        self.folder, self.timeout = folder, timeout
        self.environment = page_environment(tools)
        if store is not None:
            self.environment["OODBENCH_STORE"] = str(store)
        self.python = [str(tools / "page-python")] if tools else [sys.executable, "-c"]
        self.with_data = bool(os.environ.get("OODBENCH_DATA"))
        self.process: subprocess.Popen[str] | None = None
        self.log: IO[str] = (folder / ".python.log").open("w+", encoding="utf-8")

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            self.process.wait(self.timeout)
        self.log.close()

    def run(self, snippet: Snippet) -> None:
        """AssertionError with the line of the page and the output where it fails."""
        if "data" in snippet.words and not self.with_data:
            return
        if snippet.kind == "file":
            path = self.folder / snippet.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(snippet.text, encoding="utf-8")
        elif snippet.kind == "python":
            self._python(snippet)
        elif "long" in snippet.words:
            for asked in commands_in(snippet.text):
                assert not (why := refusal(asked)), f"line {snippet.line}: {' '.join(asked)}\n{why}"
        else:
            for step in snippet.steps:
                out, notes = self.printed(step)
                if not step.shown.strip():
                    continue
                moving = "moving" in snippet.words
                assert agrees(step.shown, out, notes, moving=moving), (
                    f"line {step.last}: $ {step.command}\nthe page shows\n{step.shown}\n"
                    f"it printed\n{out}\nand on standard error\n{notes}"
                )

    def printed(self, step: Step) -> tuple[str, str]:
        """Standard output and error of a command, which must end with status 0."""
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", step.command], cwd=self.folder, env=self.environment,
            capture_output=True, text=True, timeout=self.timeout, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        output = f"{done.stdout[-4000:]}{done.stderr[-4000:]}"
        assert done.returncode == 0, (
            f"line {step.last}: $ {step.command}\nstatus {done.returncode}\n{output}"
        )
        return done.stdout, done.stderr

    def _python(self, snippet: Snippet) -> None:
        if self.process is None:
            self.process = subprocess.Popen(
                [*self.python, DRIVER], cwd=self.folder, env=self.environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
            )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        block = {"code": snippet.text, "name": f"<line {snippet.line} of the page>"}
        self.process.stdin.write(json.dumps(block) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"line {snippet.line}: the process of the page ended"
        failure = json.loads(answer)
        assert not failure, f"line {snippet.line}:\n{failure}"


def page_environment(tools: Path | None = None) -> dict[str, str]:
    """That of a reader who has set nothing, on a terminal of 120 columns."""
    names = ("OODBENCH_STORE", "OODBENCH_CACHE", "OODBENCH_PROJECT", "PYTEST_CURRENT_TEST")
    folders = [*([str(tools)] if tools else []), str(Path(sys.executable).parent)]
    return {k: v for k, v in os.environ.items() if k not in names} | {
        "PATH": os.pathsep.join([*folders, os.environ["PATH"]]),
        "COLUMNS": "120",
        "OMP_NUM_THREADS": "1",
    }
