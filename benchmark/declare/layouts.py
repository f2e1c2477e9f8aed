"""Layouts: how a table is printed; which number stands where, in which words.

A layout is a tree of blocks.  A block with `blocks` sets them side by side; the others have rows
and columns.  The number of a cell is what its `select` asks for: the settings of the layout, of
its blocks, of its row (group) and of its columns, merged in that order; a `recipe_prefix` stands
before the recipe: where columns say for which images a recipe is (F3), rows say of which family it
is (lvae-).

    select keys   pair, detector, recipe, layers, score, metric       a metric of a run, percent
                  recipe_prefix
                  mean (near, far)                  the mean of OpenOOD's sets, `pair` one of them
                  side (id_train, id_test, ood_test), diagnostic, index   a diagnostic of a run
                  model, paper_score, paper_metric                    the number in the papers
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Select: TypeAlias = Mapping[str, str | int]

#: Metrics by name, in the order of tables.
METRICS = ("auroc", "auprc", "fpr80", "fpr95")


def merged(*selects: Select) -> Select:
    """What a cell asks for: later settings over earlier ones, the prefix put before the recipe."""
    query = {key: value for select in selects for key, value in select.items()}
    prefix = query.pop("recipe_prefix", "")
    return query | {"recipe": f"{prefix}{query['recipe']}"} if "recipe" in query else query


@dataclass(frozen=True)
class Column:
    """A column, or a group of columns under one title.

    `heads` are the titles above it and its own, but those of columns that say of which detector
    they are: the innermost of these is `of`.
    """

    title: str
    select: Select
    columns: tuple[Column, ...] = ()
    decimals: int | None = None
    scientific: bool = False
    heads: tuple[str, ...] = ()
    of: str = ""

    @property
    def leaves(self) -> tuple[Column, ...]:
        """Its columns of numbers; `select` of a leaf holds what its groups ask for as well."""
        if not self.columns:
            return (self,)
        return tuple(leaf for column in self.columns for leaf in column.leaves)


@dataclass(frozen=True)
class Row:
    """A line of the body: numbers, a sub-heading, or a rule."""

    kind: Literal["numbers", "heading", "rule"]
    label: str = ""
    select: Select = field(default_factory=dict)
    bold: bool = True
    group: int = -1
    group_label: str = ""


@dataclass(frozen=True)
class Block:
    """Rows × columns, or blocks side by side; `bold` is where a best value is looked for."""

    title: str
    select: Select
    stubs: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    rows: tuple[Row, ...] = ()
    blocks: tuple[Block, ...] = ()
    bold: Literal["block", "group"] = "block"

    @property
    def leaves(self) -> tuple[Column, ...]:
        """Columns of numbers."""
        return tuple(leaf for column in self.columns for leaf in column.leaves)

    def basic(self) -> Iterator[Block]:
        """The blocks with rows, from left to right."""
        if not self.blocks:
            yield self
        for block in self.blocks:
            yield from block.basic()

    def queries(self) -> Iterator[Select]:
        """What every cell asks for."""
        for block in self.basic():
            for row in block.rows:
                if row.kind == "numbers":
                    yield from (merged(block.select, row.select, c.select) for c in block.leaves)


@dataclass(frozen=True)
class Layout:
    """A table: its blocks stand below one another.

    `reference` names the file with the published numbers; `spread` prints mean ± standard
    deviation over seeds in a cell; `undefined` are cells with a fixed text.
    """

    name: str
    title: str
    source: str
    blocks: tuple[Block, ...]
    reference: str = ""
    notes: tuple[str, ...] = ()
    spread: bool = False
    undefined: tuple[tuple[Select, str], ...] = ()

    def queries(self) -> Iterator[Select]:
        """What every cell asks for, block by block, row by row."""
        for block in self.blocks:
            yield from block.queries()

    def fixed(self, query: Select) -> str | None:
        """The text of a cell that has no number by definition, or None."""
        for where, text in self.undefined:
            if all(query.get(key) == value for key, value in where.items()):
                return text
        return None
