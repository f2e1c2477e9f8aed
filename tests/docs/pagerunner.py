"""The snippets of a Markdown page, and how they are run: in order, in one folder.

A fence says what becomes of it:

    ```python title="mine.py"     any language with a title: the file is written, not run
    ```python                     runs in the one Python process of the page
    ```console                    lines after "$ " are commands of bash, the rest is their output
    ```console data               as above, only where OODBENCH_DATA names real image sets
    anything else                 is shown only
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^`\n]*)$")
TITLE = re.compile(r'\btitle="(?P<title>[^"]+)"')
RUN = ("python", "console")
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
class Snippet:
    """One fence: `kind` is "file", "python" or "console"; `line` is where it stands."""

    kind: str
    text: str
    line: int
    title: str = ""
    data: bool = False

    @property
    def commands(self) -> list[str]:
        """The commands of a console; a line that ends with a backslash goes on in the next."""
        found: list[str] = []
        more = False
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append(line[2:])
            elif more:
                found[-1] += "\n" + line
            more = bool(found) and line.endswith("\\") and (more or line.startswith("$ "))
        return found


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
            if unknown := set(words[1:]) - {"data"}:
                raise ValueError(f"line {number}: a fence does not know {', '.join(unknown)}")
            found.append(Snippet(words[0], body, number, data="data" in words))
    return found


def _body(lines: Iterator[tuple[int, str]], opening: re.Match[str], number: int) -> str:
    indent, ticks, body = len(opening["indent"]), opening["ticks"], []
    for _, line in lines:
        if line.strip() == ticks:
            return "\n".join(body) + "\n"
        body.append(line[indent:] if not line[:indent].strip() else line)
    raise ValueError(f"line {number}: this fence is not closed")


class Page:
    """Runs the snippets of one page in `folder`; use as a context manager."""

    def __init__(self, folder: Path, timeout: float = 300.0) -> None:
        self.folder, self.timeout = folder, timeout
        names = ("OODBENCH_STORE", "OODBENCH_CACHE", "PYTEST_CURRENT_TEST")
        self.environment = {k: v for k, v in os.environ.items() if k not in names} | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "120",
            "OMP_NUM_THREADS": "1",
        }
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
        if snippet.data and not self.with_data:
            return
        if snippet.kind == "file":
            path = self.folder / snippet.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(snippet.text, encoding="utf-8")
        elif snippet.kind == "console":
            for command in snippet.commands:
                self._command(command, snippet.line)
        else:
            self._python(snippet)

    def _command(self, command: str, line: int) -> None:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], cwd=self.folder, env=self.environment,
            capture_output=True, text=True, timeout=self.timeout, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        output = f"{done.stdout[-4000:]}{done.stderr[-4000:]}"
        assert done.returncode == 0, f"line {line}: $ {command}\nstatus {done.returncode}\n{output}"

    def _python(self, snippet: Snippet) -> None:
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-c", DRIVER], cwd=self.folder, env=self.environment, text=True,
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
