"""Write the output that pages show anew: `python tests/docs/refresh_pages.py docs/index.md …`.

Without a page: README and all of docs.  What agrees stays.  An output that ends with `…` keeps as
many lines as it had; one with `…` elsewhere is printed, to be mended by hand, and so is what fails.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from pagerunner import Page, Snippet, Step, page_environment, snippets
from shown_output import ANY, agrees
from warm import Warm

ROOT = Path(__file__).parents[2]


def refreshed(page: Path, tools: Path) -> str:
    """The page with the output of today."""
    text = page.read_text("utf-8")
    changes: list[tuple[Step, list[str]]] = []
    with tempfile.TemporaryDirectory() as folder, Page(Path(folder), tools) as running:
        for snippet in snippets(text):
            start = time.monotonic()
            try:
                if snippet.kind == "console" and not {"long", "data"} & snippet.words:
                    changes += _changes(snippet, running)
                else:
                    running.run(snippet)
            except AssertionError as error:
                say(f"{page.name}: {error}")
            if (took := time.monotonic() - start) > 5:
                say(f"{page.name}:{snippet.line} took {took:.0f} s")
    lines = text.splitlines()
    for step, output in reversed(changes):
        command = lines[step.last - 1]
        indent = command[: len(command) - len(command.lstrip())]
        height = len(step.shown.splitlines())
        lines[step.last : step.last + height] = [(indent + line).rstrip() for line in output]
    return "\n".join(lines) + "\n"


def _changes(snippet: Snippet, running: Page) -> list[tuple[Step, list[str]]]:
    found = []
    for step in snippet.steps:
        out, notes = running.printed(step)
        moving = "moving" in snippet.words
        if not step.shown.strip() or agrees(step.shown, out, notes, moving=moving):
            continue
        new, old = out.rstrip().splitlines(), step.shown.rstrip().splitlines()
        if old[-1] == ANY and ANY not in "".join(old[:-1]):
            found.append((step, [*new[: len(old) - 1], ANY]))
        elif ANY in step.shown:
            say(f"line {step.last}: $ {step.command}\nby hand:\n{notes}\n{out}")
        else:
            found.append((step, new))
    return found


def say(text: str) -> None:
    """One message on standard error."""
    sys.stderr.write(f"{text}\n")


def main(names: list[str]) -> None:
    """Refresh the named pages, or all."""
    pages = [Path(name) for name in names] or [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    with Warm(page_environment()) as warm:
        for page in pages:
            start = time.monotonic()
            text = refreshed(page, warm.bin)
            if text != page.read_text("utf-8"):
                page.write_text(text, encoding="utf-8")
                say(f"{page}: refreshed")
            say(f"{page}: {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
