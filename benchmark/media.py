"""Text as each medium takes it: terminal, CSV, LaTeX, Markdown, HTML, Rich, figure.

Names and titles come from everywhere: files, archives, plug-ins, other people's stores.  None of
them may move a cursor, hide what follows, reverse the reading order, open a link, be a formula of
a spreadsheet or a command of LaTeX.  Every renderer passes them through its function here, once.
Characters that do not print are shown as ``\\u202e``; the rest reads as it was given.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.text import Text

T = TypeVar("T")
#: Controls (C0, DEL, C1), marks of the reading order, separators of lines, tags, lone surrogates.
_HIDDEN = (
    "\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e0fff\ud800-\udfff"
)
_INLINE = re.compile(f"[{_HIDDEN}]")
_LINES = re.compile(f"(?![\\n\\t])[{_HIDDEN}]")
#: How a cell begins that a spreadsheet computes (OWASP, "CSV injection").
_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
_ONE = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
#: A number, with a spread or an interval behind it.
_NUMBER = re.compile(rf"{_ONE}(?: ± {_ONE})?(?: \[{_ONE}, {_ONE}\])?[†*!]?")
#: A dash and words of letters (``-``, ``-WAIC``, ``- non-VAE methods``): no cell, no function.
_DASHED = re.compile(r"-(?: ?[A-Za-z]+(?:-[A-Za-z]+)*)*:?")
#: Characters that LaTeX reads as commands, or that the usual fonts lack.
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": "$<$", ">": "$>$", "|": "$|$", "−": "$-$", "±": r"$\pm$", "×": r"$\times$",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "≥": r"$\geq$", "≤": r"$\leq$", "†": r"$\dagger$",
    "·": r"$\cdot$", "‖": r"$\Vert$", "–": "--", "—": "---", "…": r"\dots{}",
    "√": r"$\surd$", "→": r"$\to$", "∞": r"$\infty$", "½": r"$\frac12$", "⁻": "$^-$",
    "¹": "$^1$", "²": "$^2$", "³": "$^3$", "’": "'",
    "“": "``", "”": "''", "\u00a0": "~", "\u202f": r"\,",
    "∇": r"$\nabla$", "∂": r"$\partial$", "∈": r"$\in$", "∉": r"$\notin$", "∑": r"$\sum$",
    "∏": r"$\prod$", "∫": r"$\int$", "≈": r"$\approx$", "≠": r"$\neq$", "≡": r"$\equiv$",
    "∝": r"$\propto$", "∼": r"$\sim$", "≪": r"$\ll$", "≫": r"$\gg$", "⊂": r"$\subset$",
    "⊆": r"$\subseteq$", "∪": r"$\cup$", "∩": r"$\cap$", "∀": r"$\forall$", "∃": r"$\exists$",
    "∅": r"$\emptyset$", "⟨": r"$\langle$", "⟩": r"$\rangle$", "⌈": r"$\lceil$",
    "⌉": r"$\rceil$", "⌊": r"$\lfloor$", "⌋": r"$\rfloor$", "ℓ": r"$\ell$",
    "←": r"$\leftarrow$", "↔": r"$\leftrightarrow$", "⇒": r"$\Rightarrow$",
    "⇔": r"$\Leftrightarrow$", "∘": r"$\circ$", "⊙": r"$\odot$", "⊕": r"$\oplus$",
    "⊗": r"$\otimes$", "∥": r"$\Vert$", "∗": "$*$", "⋅": r"$\cdot$", "′": r"$^\prime$",
    "″": r"$^{\prime\prime}$", "°": r"$^\circ$", "÷": r"$\div$", "‘": "`", "•": r"$\bullet$",
    "ϵ": r"$\epsilon$", "ϕ": r"$\phi$", "ϑ": r"$\vartheta$", "ϱ": r"$\varrho$",
    "ϖ": r"$\varpi$", "ς": r"$\varsigma$",
}  # fmt: skip
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta",
    "θ": "theta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi",
    "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "υ": "upsilon", "φ": "phi", "χ": "chi",
    "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi",
    "Π": "Pi", "Σ": "Sigma", "Υ": "Upsilon", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega", "µ": "mu",
}  # fmt: skip
LATEX |= {letter: f"$\\{name}$" for letter, name in _GREEK.items()}
LATEX |= {below: f"$_{number}$" for number, below in enumerate("₀₁₂₃₄₅₆₇₈₉")}
#: Capital Greek letters that are Latin ones in LaTeX.
_LATIN = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo", strict=True))


def terminal(text: str) -> str:
    """One line for a terminal: what does not print is shown as ``\\u001b``."""
    return _INLINE.sub(_shown, text)


def terminal_lines(text: str) -> str:
    """The same for text of several lines, whose line breaks and tabs stay."""
    return _LINES.sub(_shown, text)


def rich_text(text: str) -> Text:
    """The same for Rich, as text in which no markup is read."""
    from rich.text import Text

    return Text(terminal_lines(text))


def csv_cell(value: T) -> T | str:
    """A cell that no spreadsheet computes: text that begins like a formula gets a ``'`` before it.

    Numbers stay as they are, also as text, and so do a dash before words and what is no text.
    """
    if not isinstance(value, str):
        return value
    harmless = _NUMBER.fullmatch(value) or _DASHED.fullmatch(value)
    formula = _FORMULA.match(value) and not harmless
    return f"'{terminal(value)}" if formula else terminal(value)


def csv_row(row: Mapping[str, T]) -> dict[str, T | str]:
    """`csv_cell` of every value."""
    return {name: csv_cell(value) for name, value in row.items()}


def latex(text: str) -> str:
    """Text that LaTeX sets as it reads here."""
    return "".join(map(_latex, terminal(text)))


def _latex(char: str) -> str:
    """One character; small raised and lowered ones by what Unicode says they stand for."""
    if char in LATEX or char.isascii():
        return LATEX.get(char, char)
    kind, _, points = unicodedata.decomposition(char).partition("> ")
    if kind in ("<sub", "<super"):
        inner = "".join(_latex(chr(int(point, 16))).strip("$") for point in points.split())
        return f"${'_' if kind == '<sub' else '^'}{{{inner}}}$"
    if char in _LATIN:
        return f"${_LATIN[char]}$"
    return char


def markdown(text: str) -> str:
    """Characters that Markdown would read as marks, made plain."""
    return re.sub(r"([\\`*_|<\[\]~])", r"\\\1", terminal(text))


def html_text(text: str) -> str:
    """Text for an element or an attribute."""
    return html.escape(terminal(text))


def displayed(value: object) -> object:
    """A JSON value for a page that shows its texts: what does not print is made visible."""
    if isinstance(value, str):
        return terminal_lines(value)
    if isinstance(value, Mapping):
        return {key: displayed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [displayed(item) for item in value]
    return value


def printable_figure(drawn: Figure) -> Figure:
    """A figure whose texts print; labels of ticks are made of `terminal` where they are set.

    That ``$`` is a letter is a setting of `oodbench.figures.style`.
    """
    from matplotlib.text import Text

    for text in drawn.findobj(Text):
        if isinstance(text, Text):
            text.set_text(terminal_lines(text.get_text()))
    return drawn


def _shown(match: re.Match[str]) -> str:
    point = ord(match[0])
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
