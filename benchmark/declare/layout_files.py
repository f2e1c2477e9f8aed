"""Layouts read from YAML; every unknown key and every missing part is named with its file.

name, title, source, reference, notes, spread     of the table
select, stubs, columns, rows                      what blocks share that do not say otherwise
undefined: [{where: {…}, text: N/A}]              cells without a number by definition
blocks: [{title, select, stubs, bold, columns, rows} or {title, select, blocks}]
columns: [{title, select, decimals, scientific} or {title, select, columns}]
rows: [{label, select, bold}, {heading: text}, {rule: true}, {group: text, select, rows}]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, cast

from oodbench.declare.declarations import Declarations, Source, sources
from oodbench.declare.layouts import METRICS, Block, Column, Layout, Row, Select
from oodbench.declare.yaml_files import read_yaml
from oodbench.errors import ConfigError, UnknownNameError, listed, nearest

SELECT_KEYS = {
    "pair", "detector", "recipe", "recipe_prefix", "layers", "score", "metric", "side",
    "diagnostic", "index", "mean", "model", "paper_score", "paper_metric",
}  # fmt: skip
SHARED_KEYS = {"select", "stubs", "columns", "rows"}
TABLE_KEYS = {"name", "title", "source", "reference", "notes", "spread", "blocks", "undefined"}
BLOCK_KEYS = {"title", "bold", "blocks"}
COLUMN_KEYS = {"title", "select", "columns", "decimals", "scientific"}
ROW_KEYS = {"label", "select", "bold", "heading", "rule", "group", "rows"}
SIDES = ("id_test", "id_train", "ood_test")
MEANS = ("near", "far")


def layout_names() -> list[str]:
    """Names of the layouts, table1 … first; reads no file."""

    def order(name: str) -> tuple[bool, int, str]:
        digits = "".join(char for char in name if char.isdigit())
        return (not digits, int(digits or 0), name)

    return sorted(layout_declarations().names(), key=order)


def layout_declarations() -> Declarations[Layout]:
    """Every ``layouts/NAME.yaml`` of oodbench, of plug-ins and of the project."""
    return _declarations(sources())


@cache
def _declarations(_: tuple[Source, ...]) -> Declarations[Layout]:
    return Declarations[Layout]("layout").add_files("layouts", read_layout)


def find_layout(name: str) -> Layout:
    """A layout by name, or a path to a YAML file; UnknownNameError lists the nearest."""
    if name.endswith((".yaml", ".yml")):
        return read_layout(Path(name))
    return layout_declarations().get(name, "or general")


def read_layout(path: Path) -> Layout:
    """Parse and check a layout file; ConfigError names the file and the key."""
    raw = read_yaml(path)
    where = path.name
    _known(raw, TABLE_KEYS | SHARED_KEYS, where)
    blocks = _mappings(raw.get("blocks", []), f"{where}: blocks")
    if not blocks:
        raise ConfigError(f"{where}: 'blocks' must list one block or more")
    undefined = _mappings(raw.get("undefined", []), f"{where}: undefined")
    for rule in undefined:
        _known(rule, {"where", "text"}, f"{where}: undefined")
    shared = {key: raw[key] for key in SHARED_KEYS if key in raw}
    return Layout(
        name=str(raw.get("name", path.stem)),
        title=str(raw.get("title", path.stem)),
        source=str(raw.get("source", "")),
        blocks=tuple(
            _block(block, shared, {}, f"{where}: block {i + 1}") for i, block in enumerate(blocks)
        ),
        reference=str(raw.get("reference", "")),
        notes=tuple(_texts(raw.get("notes", []), f"{where}: notes")),
        spread=bool(raw.get("spread", False)),
        undefined=tuple(
            (_select(rule.get("where", {}), f"{where}: undefined"), str(rule.get("text", "")))
            for rule in undefined
        ),
    )


def _block(
    raw: Mapping[str, object], above: Mapping[str, object], outer: Select, where: str
) -> Block:
    """A block; `above` is what it may leave out, `outer` the settings it stands in."""
    _known(raw, BLOCK_KEYS | SHARED_KEYS, where)
    select = {
        **outer,
        **_select(above.get("select", {}), where),
        **_select(raw.get("select", {}), where),
    }
    shared = {**above, **{key: raw[key] for key in SHARED_KEYS if key in raw}, "select": {}}
    title, bold = str(raw.get("title", "")), str(raw.get("bold", "block"))
    if bold not in ("block", "group"):
        raise ConfigError(f"{where}: 'bold' must be block or group, not {bold!r}")
    inner = _mappings(raw.get("blocks", []), where)
    if inner:
        parts = (_block(block, shared, select, f"{where}.{i + 1}") for i, block in enumerate(inner))
        return Block(title, select, blocks=tuple(parts))
    for key in ("columns", "rows"):
        if not shared.get(key):
            raise ConfigError(f"{where}: the key {key!r} is missing")
    return Block(
        title,
        select,
        stubs=tuple(_texts(shared.get("stubs", ["Method"]), f"{where}: stubs")),
        columns=tuple(_columns(shared["columns"], {}, f"{where}: columns")),
        rows=tuple(_rows(shared["rows"], f"{where}: rows")),
        bold=cast("Literal['block', 'group']", bold),
    )


def _columns(
    raw: object, outer: Select, where: str, heads: tuple[str, ...] = (), of: str = ""
) -> Iterable[Column]:
    for column in _mappings(raw, where):
        _known(column, COLUMN_KEYS, where)
        own, title = _select(column.get("select", {}), where), str(column.get("title", ""))
        select = {**outer, **own}
        above = (heads, title) if "detector" in own else ((*heads, title), of)
        decimals = column.get("decimals")
        if decimals is not None and not isinstance(decimals, int):
            raise ConfigError(f"{where}: 'decimals' must be a whole number, not {decimals!r}")
        yield Column(
            title=title,
            select=select,
            columns=tuple(_columns(column.get("columns", []), select, where, *above)),
            decimals=decimals,
            scientific=bool(column.get("scientific", False)),
            heads=above[0],
            of=above[1],
        )


def _rows(raw: object, where: str) -> list[Row]:
    """Rows in order; a rule stands between groups."""
    rows: list[Row] = []
    groups = 0
    for item in _mappings(raw, where):
        _known(item, ROW_KEYS, where)
        if "rule" in item:
            rows.append(Row("rule"))
        elif "heading" in item:
            rows.append(Row("heading", str(item["heading"])))
        elif "group" in item:
            rows += [Row("rule")] if groups else []
            outer = _select(item.get("select", {}), where)
            members = _mappings(item.get("rows", []), where)
            rows += [_row(r, outer, groups, str(item["group"]), where) for r in members]
            groups += 1
        else:
            rows.append(_row(item, {}, -1, "", where))
    return rows


def _row(raw: Mapping[str, object], outer: Select, group: int, title: str, where: str) -> Row:
    _known(raw, {"label", "select", "bold"}, where)
    if "label" not in raw:
        raise ConfigError(f"{where}: the key 'label' of a row is missing")
    select = {**outer, **_select(raw.get("select", {}), where)}
    return Row("numbers", str(raw["label"]), select, bool(raw.get("bold", True)), group, title)


def _select(raw: object, where: str) -> dict[str, str | int]:
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where}: 'select' must be a mapping, not {raw!r}")
    _known(raw, SELECT_KEYS, f"{where}: select")
    for key, value in raw.items():
        if not isinstance(value, int if key in ("layers", "index") else str):
            raise ConfigError(f"{where}: select.{key}: {value!r} is of the wrong type")
    for key, valid in (("metric", METRICS), ("side", SIDES), ("mean", MEANS)):
        if key in raw and raw[key] not in valid:
            raise UnknownNameError(f"{key} in {where}", str(raw[key]), valid)
    return dict(raw)


def _mappings(raw: object, where: str) -> Sequence[Mapping[str, object]]:
    if not isinstance(raw, list) or not all(isinstance(item, Mapping) for item in raw):
        raise ConfigError(f"{where} must be a list of mappings")
    return raw


def _texts(raw: object, where: str) -> list[str]:
    if not isinstance(raw, list) or not all(isinstance(item, str) for item in raw):
        raise ConfigError(f"{where} must be a list of texts")
    return raw


def _known(mapping: Mapping[str, object], known: set[str], where: str) -> None:
    for key in mapping:
        if key not in known:
            close = listed(nearest(str(key), known), 3)
            raise ConfigError(f"{where}: unknown key {key!r}; nearest: {close}")
