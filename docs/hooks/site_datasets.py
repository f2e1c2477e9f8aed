"""A page per data set, from its declaration and the sums that its reader checks."""

from __future__ import annotations

import re

from site_text import cell, cited, escaped, table

from oodbench.datasets.sources.by_hand import described
from oodbench.datasets.spec import DatasetSpec, catalogue

WHERE = "\nFOLDER is any folder; without `--into` it is `data/downloads` beside the store.\n"
URL = re.compile(r"https?://[^\s,;)]+")
INDEX = """# Data sets

Where every registered set comes from, under which licence, how it is had by hand, where its files
go and how to see that they are right. `oodbench data info NAME` prints the same, `oodbench data
status` says what is on this machine. Images of your own need no registration:
[Data sets by name](../data.md).

"""


def dataset_pages() -> dict[str, str]:
    """The list and every page, by path."""
    specs = list(catalogue().values())
    rows = [
        (f"[{escaped(spec.title)}]({spec.name}.md)", cell(spec.name),
         "×".join(map(str, spec.shape)), escaped(spec.licence))
        for spec in specs
    ]  # fmt: skip
    pages = {f"datasets/{spec.name}.md": _page(spec) for spec in specs}
    heads = ["data set", "name", "C×H×W", "licence"]
    return {"datasets/index.md": INDEX + table(heads, rows), **pages}


def _page(spec: DatasetSpec) -> str:
    (title, about), *rest = described(spec, "FOLDER")
    parts = [f"# {escaped(title)}\n", f"Name: {cell(spec.name)}\n", *map(_item, about)]
    if spec.classes:
        named = (f"{number} {cell(name)}" for number, name in enumerate(spec.classes))
        parts.append(f"- classes: {', '.join(named)}")
    if spec.variants:
        chains = (f"`{spec.name}@{name}` ({', '.join(chain)})"
                  for name, chain in spec.variants.items())  # fmt: skip
        parts.append(f"- variants: {', '.join(chains)}; the first is what the bare name means")
    for head, lines in rest:
        parts += [f"\n## {escaped(head)}\n", *map(_item, lines)]
    if len(rest) > 1:
        parts.append(WHERE)
    return "\n".join(parts) + "\n"


def _item(line: str) -> str:
    """An item of a list with its addresses as links."""
    parts, end = [], 0
    for found in URL.finditer(line):
        parts += [_plain(line[end : found.start()]), f"<{found[0]}>"]
        end = found.end()
    return "- " + "".join([*parts, _plain(line[end:])])


def _plain(text: str) -> str:
    return "".join(
        part if part.startswith("`") else cited(escaped(part))
        for part in re.split(r"(`[^`]+`)", text)
    )
