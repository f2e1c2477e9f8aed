"""The map of rooms, drawn from the imports of the source; run by itself, it prints the SVG.

A room is a package of `benchmark/`, or a module that stands beside them; the modules that import
nothing but each other are drawn as one, the ground.  An arrow goes from what imports to what is
imported; one that a longer way implies is left out.
"""

from __future__ import annotations

import ast
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from site_imports import Graph, grouped, imports, levels, reduced, room, source_files
from site_layers import Node, Size, chain, places, rows_of

GROUND = "ground"
METHODS = ("baselines", "models")
MAP = "<!-- the map of rooms -->"
#: Colours of the site where it shows the map, else those of the reader's own setting.
STYLE = """
.rooms { width: 100%; --line: #7d8b99; --method: #b26a00;
  --ink: var(--md-default-fg-color, #1c232b); --paper: var(--md-default-bg-color, #ffffff);
  --soft: var(--md-default-fg-color--light, #5b6570); }
@media (prefers-color-scheme: dark) { .rooms {
  --ink: var(--md-default-fg-color, #e4e8ec); --paper: var(--md-default-bg-color, #14181d);
  --soft: var(--md-default-fg-color--light, #a3adb8); } }
.rooms rect { fill: var(--paper); stroke: var(--line); stroke-width: 1.2; }
.rooms .method rect { stroke: var(--method); stroke-dasharray: 5 3; }
.rooms path { fill: none; stroke: var(--line); stroke-width: 1.2; }
.rooms marker path { fill: var(--line); stroke: none; }
.rooms text { fill: var(--soft); font: 11px system-ui, sans-serif; text-anchor: middle; }
.rooms .name { fill: var(--ink); font: 600 14px ui-monospace, monospace; }
"""


@dataclass(frozen=True)
class House:
    """The arrows between rooms, the first line of each, and its modules."""

    graph: Graph
    lines: Mapping[str, str]
    modules: Mapping[str, tuple[str, ...]]


def house() -> House:
    """Read from the source; CycleError where rooms import each other in a circle."""
    files = source_files()
    graph = imports(files)
    rooms = {name: room(name, "oodbench") for name in files if name != "oodbench"}
    ground = _ground(grouped(graph, rooms), files)
    rooms = {name: GROUND if found in ground else found for name, found in rooms.items()}
    names = sorted(set(rooms.values()))
    modules = {name: tuple(n for n in files if rooms.get(n) == name) for name in names}
    lines = {name: _first_line(files[f"oodbench.{name}"]) for name in modules if name != GROUND}
    return House(grouped(graph, rooms), lines, modules)


def _ground(graph: Graph, files: Mapping[str, Path]) -> set[str]:
    """Single modules that import nothing but each other."""
    found = {name for name in graph if files[f"oodbench.{name}"].name != "__init__.py"}
    while out := {name for name in found if graph[name] - found}:
        found -= out
    return found


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_bytes())) or "").split("\n")[0]


def with_rooms(markdown: str) -> str:
    """A page with the map where it asks for it."""
    if MAP not in markdown:
        return markdown
    return markdown.replace(MAP, f'<div class="rooms-map">{rooms_svg()}</div>')


def rooms_svg() -> str:
    """The map in one line, without scripts or fonts of its own."""
    found, size = house(), Size()
    above = {name: below - {GROUND} for name, below in found.graph.items() if name != GROUND}
    arrows, level = reduced(above), levels(above)
    rows = rows_of(arrows, level)
    place = places(rows, size)
    half = max(abs(x) for x, _ in place.values()) + size.width / 2 + 2
    foot = len(rows) * (size.height + size.row_gap)
    parts = [
        f'<svg class="rooms" viewBox="{-half:.0f} -2 {2 * half:.0f} {foot + 54:.0f}" role="img"'
        ' aria-label="Rooms of oodbench; an arrow goes from a room to one that it imports"'
        ' xmlns="http://www.w3.org/2000/svg">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="rooms-head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7"'
        ' markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8Z"/></marker></defs>',
        *_arrows(arrows, level, place, size),
        *(_box(found, name, place[name], size) for name in sorted(level)),
        _floor(found, half, foot),
        "</svg>",
    ]
    return "".join(line for part in parts for line in part.splitlines())


def _arrows(
    arrows: Graph, level: Mapping[str, int], place: Mapping[Node, tuple[float, float]], size: Size
) -> Iterator[str]:
    for name, below in sorted(arrows.items()):
        for target in sorted(below):
            x, y = place[name]
            y += size.height
            path = f"M{x:.0f} {y:.0f}"
            for node in chain(name, target, level)[1:]:
                to, at = place[node]
                half = (at - y) / 2
                path += f"C{x:.0f} {y + half:.0f} {to:.0f} {at - half:.0f} {to:.0f} {at:.0f}"
                x, y = to, at
                if node != target:  # beside the boxes of a row an arrow goes straight down
                    y += size.height
                    path += f"V{y:.0f}"
            yield f'<path d="{path}" marker-end="url(#rooms-head)"/>'


def _box(found: House, name: str, at: tuple[float, float], size: Size) -> str:
    x, y = at
    text = found.lines[name].replace("`", "").removesuffix(".")
    lines = textwrap.wrap(text, 35, max_lines=3, placeholder=" …")
    below = ", ".join(sorted(found.graph[name])) or "nothing of ours"
    kind = " class='method'" if name in METHODS else ""
    parts = [
        f"<g{kind}><title>{escape(f'{name} imports {below}')}</title>",
        f'<rect x="{x - size.width / 2:.0f}" y="{y:.0f}" width="{size.width:.0f}"'
        f' height="{size.height:.0f}" rx="6"/>',
        f'<text class="name" x="{x:.0f}" y="{y + 20:.0f}">{escape(name)}</text>',
    ]
    for number, line in enumerate(lines):
        parts.append(f'<text x="{x:.0f}" y="{y + 37 + 14 * number:.0f}">{escape(line)}</text>')
    return "".join([*parts, "</g>"])


def _floor(found: House, half: float, y: float) -> str:
    names = " · ".join(name.split(".")[1] for name in found.modules[GROUND])
    return (
        f'<g><rect x="{2 - half:.0f}" y="{y:.0f}" width="{2 * half - 4:.0f}" height="50" rx="6"/>'
        f'<text class="name" x="0" y="{y + 20:.0f}">the ground, which every room may use</text>'
        f'<text x="0" y="{y + 38:.0f}">{escape(names)}</text></g>'
    )


if __name__ == "__main__":
    sys.stdout.write(rooms_svg() + "\n")
