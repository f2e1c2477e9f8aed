"""Text for outputs that lack characters: plain letters and signs instead, decided once.

Batch jobs, containers and pipes often speak ASCII, Latin-1 or cp1252.  `prepare` settles how
standard output and error write what their encoding lacks; `spelled` says the same before a table
measures its columns, so that they stay on line.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: What is written for a character that the encoding lacks; frames keep their width.
PLAIN = {
    "\u0302": "^", "\u0303": "~",  # a hat and a tilde over the letter before
    "↑": "(up)", "↓": "(down)", "→": "->", "►": ">", "←": "<-", "±": "+-", "−": "-", "×": "x",
    "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "·": "*", "…": "...", "–": "-", "—": "-",
    "‖": "||", "√": "sqrt", "∞": "inf", "½": "1/2", "⁻": "^-", "¹": "^1", "²": "^2", "³": "^3",
    "‘": "'", "’": "'", "“": '"', "”": '"', "†": "+", "µ": "u", "μ": "mu", "°": " degrees",
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "θ": "theta",
    "λ": "lambda", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "π": "pi", "Δ": "Delta",
    "Σ": "Sum", "Φ": "Phi", "█": "#", "▏": "|", "•": "*", "✓": "yes", "✗": "no",
    "÷": "/", "ς": "sigma", "ϑ": "theta", "ϕ": "phi", "ϖ": "pi", "ϱ": "rho", "ϵ": "epsilon",
    "′": "'", "″": '"', "ₓ": "_x", "ℓ": "l", "↔": "<->", "⇒": "=>", "⇔": "<=>", "∀": "for all ",
    "∃": "exists ", "∅": "{}", "∈": " in ", "∉": " not in ", "∏": "prod", "∑": "sum", "∗": "*",
    "∘": "o", "∥": "||", "∩": "cap", "∪": "cup", "∫": "int", "∼": "~", "≡": "==", "≪": "<<",
    "≫": ">>", "⊂": " subset ", "⊆": " subset= ", "⊕": "(+)", "⊗": "(x)", "⊙": "(.)", "⋅": "*",
    "⟨": "<", "⟩": ">",
    **dict.fromkeys("─━═╌╍┄┅", "-"), **dict.fromkeys("│┃║", "|"), "\u00a0": " ", "\u202f": " ",
    **dict.fromkeys("┌┐└┘├┤┬┴┼┏┓┗┛┡┩╇┣┫┳┻╋╈╔╗╚╝╠╣╦╩╬┢┪╒╕╘╛╞╡╪╤╧┯┷┠┨┝┥╺╸", "+"),
}  # fmt: skip
HANDLER = "oodbench-plain"
#: ASCII under a name that click does not take for a slip and replace by UTF-8.
ASCII = "oodbench_ascii"

_spelling: list[dict[int, str]] = []


def plain(char: str, encoding: str) -> str:
    """A sign in signs that `encoding` has; a letter, which may tell names apart, as ``\\u00e9``."""
    letter = unicodedata.category(char).startswith("L")
    greek = re.fullmatch("GREEK (SMALL|CAPITAL) LETTER ([A-Z]+)", unicodedata.name(char, ""))
    if greek and char not in PLAIN and not _has(char, encoding):
        return greek[2].lower() if greek[1] == "SMALL" else greek[2].capitalize()
    for text in (PLAIN.get(char, ""), "" if letter else unicodedata.normalize("NFKD", char)):
        if text and _has(text, encoding):
            return text
    point = ord(char)
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def _has(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _nowhere() -> io.TextIOWrapper:
    return open(os.devnull, "w", encoding="utf-8")


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(plain(char, error.encoding) for char in lacking), error.end


def _ascii_codec(name: str) -> codecs.CodecInfo | None:
    if name != ASCII:
        return None
    known = codecs.lookup("ascii")
    return codecs.CodecInfo(
        known.encode, known.decode, known.streamreader, known.streamwriter,
        known.incrementalencoder, known.incrementaldecoder, name=ASCII,
    )  # fmt: skip


def prepare() -> None:
    """Settle standard output and error of this process; a closed one leads nowhere."""
    # The lowest free number is taken: a file that is opened later must not become standard output.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    if sys.stdout is None:
        sys.stdout = _nowhere()
    if sys.stderr is None:
        sys.stderr = _nowhere()
    codecs.register_error(HANDLER, _replace)
    codecs.register(_ascii_codec)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            # One whose number was given another file since asks that for its place, and fails.
            with suppress(OSError):
                stream.reconfigure(encoding=ASCII if is_ascii else stream.encoding, errors=HANDLER)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    lacking = {char: plain(char, encoding) for char in PLAIN if not _has(char, encoding)}
    _spelling[:] = [{ord(char): text for char, text in lacking.items()}] if lacking else []


def spelled(text: str) -> str:
    """The text as standard output will show it, so that its width can be measured."""
    return text.translate(_spelling[-1]) if _spelling else text


@contextmanager
def in_full(wanted: bool = True) -> Iterator[None]:
    """What is made meanwhile goes to a file, in UTF-8 whatever the terminal speaks."""
    kept = list(_spelling)
    if wanted:
        _spelling.clear()
    try:
        yield
    finally:
        _spelling[:] = kept
