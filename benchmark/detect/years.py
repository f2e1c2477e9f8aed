"""The year of a method: that of the source which its detector cites first.

An arXiv number says when a paper was first public, which may be a year before it was printed; other
sources are cited with their year.
"""

from __future__ import annotations

import re

#: What the citation of a method begins with that no paper has.
OURS = "ours"
_ARXIV = re.compile(r"arXiv (\d\d)\d\d\.\d{4,5}")
_YEAR = re.compile(r"(?<![\w./-])(?:19|20)\d\d(?![\w./-])")


def method_year(cite: str) -> str:
    """``2024`` of ``arXiv 2405.11881``, ``ours``, or "" where the first source has no year."""
    first = cite.partition(";")[0].strip()
    if first.partition(",")[0] == OURS:
        return OURS
    number = _ARXIV.search(first)
    if number is not None:
        return f"20{number[1]}"
    year = _YEAR.search(first)
    return year[0] if year is not None else ""
