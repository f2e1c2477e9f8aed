"""The packages that `oodbench new` writes: templates rendered, checked, then renamed."""

from __future__ import annotations

import keyword
import re
import sys
import tempfile
from importlib.machinery import PathFinder
from importlib.resources import files
from pathlib import Path

from oodbench.detect.detector import DETECTORS
from oodbench.errors import OodbenchError
from oodbench.store.storage import disk_error

#: Of every kind the paths in the new package, and their templates.
FILES = {
    "detector": {
        "pyproject.toml": "detector/pyproject.toml.j2",
        "README.md": "detector/README.md.j2",
        "src/{module}/__init__.py": "detector/package.py.j2",
        "src/{module}/detector.py": "detector/detector.py.j2",
        "tests/test_{module}.py": "detector/test.py.j2",
    },
    "package": {
        "pyproject.toml": "package/pyproject.toml.j2",
        "README.md": "package/README.md.j2",
        "src/{module}/__init__.py": "package/package.py.j2",
        "src/{module}/detector.py": "detector/detector.py.j2",
        "src/{module}/model.py": "package/model.py.j2",
        "src/{module}/recipes/{name}-D.yaml": "package/recipe.yaml.j2",
        "src/{module}/suites/{name}.yaml": "package/suite.yaml.j2",
        "tests/test_{module}.py": "package/test.py.j2",
    },
}
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write_detector(name: str, into: Path) -> Path:
    """The folder ``into/name`` with a package that registers the detector `name`.

    OodbenchError, and nothing written, where the name is no good or taken, or the folder exists.
    """
    return _write("detector", name, into)


def write_package(name: str, into: Path) -> Path:
    """The same with a model, its recipe and a suite; OodbenchError as `write_detector`."""
    return _write("package", name, into)


def _write(kind: str, name: str, into: Path) -> Path:
    module = check_name(name)
    target = into / name
    if target.exists() or target.is_symlink():
        raise OodbenchError(f"{target} exists already; give another name, or another --into")
    rendered = _rendered(kind, name, module)
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into, prefix=".new-") as folder:
            whole = Path(folder) / name
            for path, text in rendered.items():
                file = whole / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            whole.rename(target)
    except OSError as error:
        raise disk_error(into, error) from error
    return target


def check_name(name: str) -> str:
    """The module's name for a detector's; OodbenchError says what is wrong and gives one."""
    if not NAME.fullmatch(name):
        mended = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-").lstrip("-0123456789")
        hint = f", e.g. {mended}" if NAME.fullmatch(mended) else ""
        raise OodbenchError(
            f"{name!r} cannot name a detector and its package: small letters and digits, words"
            f" joined by '-', a letter first{hint}"
        )
    module = name.replace("-", "_")
    if name in DETECTORS.names():
        raise OodbenchError(
            f"there is a detector {name!r} already (oodbench list detectors); give another name"
        )
    if keyword.iskeyword(module) or keyword.issoftkeyword(module):
        raise OodbenchError(f"{module!r} is a word of Python; give another name, e.g. {name}-ood")
    taken = module in sys.stdlib_module_names or PathFinder.find_spec(module) is not None
    if taken or module in ("tests", "test"):
        raise OodbenchError(
            f"a module {module!r} is installed already, which the package would hide; give another"
            f" name, e.g. {name}-ood"
        )
    return module


def _rendered(kind: str, name: str, module: str) -> dict[str, str]:
    from jinja2 import Environment, StrictUndefined, select_autoescape

    # Plain text, not HTML; every value has passed `check_name`.
    environment = Environment(
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=select_autoescape(("html",)),
    )
    folder = files("oodbench.templates")
    words = name.split("-")
    values = {
        "name": name,
        "module": module,
        "cls": "".join(word.capitalize() for word in words) + "Detector",
        "title": " ".join([words[0].capitalize(), *words[1:]]),
    }
    return {
        path.format(module=module, name=name): environment.from_string(
            folder.joinpath(*template.split("/")).read_text(encoding="utf-8")
        ).render(values)
        for path, template in FILES[kind].items()
    }
