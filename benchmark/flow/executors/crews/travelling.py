"""What must be the same on every machine: versions and sources compared, plug-in files taken along.

Files of ``--plugin FILE`` and of a project travel as text with the message that sets a worker up.
Where the machine has the very same files in the same place these are used, else copies in the
user's cache, in a folder named after what is in them.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, cast

from oodbench.canonical_json import JSON, digest
from oodbench.declare.registry import loaded_plugins
from oodbench.detect.detector import DETECTORS
from oodbench.detect.source_fingerprints import detector_source
from oodbench.errors import ConfigError, OodbenchError

if TYPE_CHECKING:
    from oodbench.flow.plan import Job

#: Packages whose versions can move a number.
PACKAGES = ("oodbench", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "pillow",
            "pytorch-ood", "pyod")  # fmt: skip
#: What of a folder of declarations travels.
DECLARED = ("recipes", "suites", "layouts")
MOST_FILES, MOST_BYTES = 1_000, 16 << 20


class MismatchError(OodbenchError):
    """A machine that would compute something else."""


def signature(detectors: Sequence[str]) -> dict[str, JSON]:
    """Versions, a print of oodbench's own files, and of every plug-in's detector of a plan."""
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "packages": {name: _version(name) for name in PACKAGES},
        "oodbench": own_files(),
        "detectors": {name: _print(name) for name in sorted(set(detectors))},
    }


def check_signature(planned: Mapping[str, JSON], where: str) -> None:
    """MismatchError, in one line, on what this machine has otherwise than the one that planned."""
    names = list(cast("Mapping[str, str]", planned["detectors"]))
    here = signature(names)
    found = [
        ("Python", str(here["python"]), str(planned["python"])),
        *(
            (name, str(cast("Mapping[str, str]", here["packages"])[name]), str(wanted))
            for name, wanted in cast("Mapping[str, str]", planned["packages"]).items()
        ),
        ("the source of oodbench", str(here["oodbench"])[:12], str(planned["oodbench"])[:12]),
        *(
            (f"the source of detector {name!r}",
             str(cast("Mapping[str, str]", here["detectors"])[name])[:12], str(wanted)[:12])
            for name, wanted in cast("Mapping[str, str]", planned["detectors"]).items()
        ),
    ]  # fmt: skip
    for what, mine, wanted in found:
        if mine != wanted:
            raise MismatchError(
                f"{where} is left out: {what} is {mine} there and {wanted} here; install the same"
                " on every machine"
            )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


@cache
def own_files() -> str:
    """SHA-256 over names and contents of all modules and declarations of oodbench."""
    from importlib.resources import files

    hasher = hashlib.sha256()
    for package in ("oodbench", "oodbench.baselines", "oodbench.models"):
        root = Path(str(files(package)))
        for path in sorted(root.rglob("*")):
            inner = path.relative_to(root)
            skipped = inner.parts[0] in ("baselines", "models", "reference")
            if path.suffix in (".py", ".yaml") and not (package == "oodbench" and skipped):
                hasher.update(f"{package}/{inner.as_posix()}\n".encode())
                hasher.update(hashlib.sha256(path.read_bytes()).digest())
    return hasher.hexdigest()


def _print(name: str) -> str:
    """The print of a plug-in's detector; oodbench's own files have theirs already."""
    cls = DETECTORS.get(name)
    if cls.__module__.startswith("oodbench."):
        return "oodbench's"
    return detector_source(cls) or "no source"


def check_sendable(jobs: Sequence[Job]) -> None:
    """ConfigError where a detector is defined in this session: no other process can have it."""
    for name in sorted({job.request.name for job in jobs}):
        cls = DETECTORS.get(name)
        if cls.__module__ == "__main__":
            raise ConfigError(
                f"detector {name!r} is defined in this session, and other processes do not have it;"
                " put it into a file and give that as a plug-in"
            )


def packed_plugins() -> tuple[Mapping[str, JSON], ...]:
    """Every plug-in that was loaded by name here, files with all that stands beside them."""
    found: list[Mapping[str, JSON]] = []
    for source in loaded_plugins():
        if not (source.endswith(".py") or "/" in source):
            found.append({"module": source})
            continue
        path = Path(source).absolute()
        root = _root(path)
        listed = {*_beside(root), path}
        found.append({
            "root": str(root), "file": path.relative_to(root).as_posix(),
            "files": _texts(root, listed),
        })  # fmt: skip
    return tuple(found)


def packed_project(path: Path | None) -> Mapping[str, JSON] | None:
    """The declarations of a project."""
    if path is None:
        return None
    root = path.absolute()
    return {"root": str(root), "files": _texts(root, set(_declarations(root)))}


def unpacked(packed: Mapping[str, JSON]) -> Path:
    """The folder of what travelled: where it was, if it is there too, else a copy."""
    root = Path(str(packed["root"]))
    texts = cast("Mapping[str, str]", packed["files"])
    if all(_same(root / name, text) for name, text in texts.items()):
        return root
    from platformdirs import user_cache_path

    from oodbench.store.storage import atomic_file

    copy = user_cache_path("oodbench") / "travelled" / digest(packed["files"])[:20] / root.name
    for name, text in texts.items():
        target = copy / name
        if not target.resolve().is_relative_to(copy.resolve()):
            raise ConfigError(f"{name!r} leads out of its folder")
        if not _same(target, text):
            with atomic_file(target) as file:
                file.write(text.encode())
    return copy


def _same(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False


def _root(path: Path) -> Path:
    """The folder above the outermost package that a file is part of, else its own."""
    folder = path.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _beside(root: Path) -> Iterator[Path]:
    """Modules, packages and declarations of a folder."""
    yield from root.glob("*.py")
    for package in root.glob("*/__init__.py"):
        yield from package.parent.rglob("*.py")
    yield from _declarations(root)


def _declarations(root: Path) -> Iterator[Path]:
    yield from (root / name for name in ("pairs.yaml", "datasets.yaml") if (root / name).is_file())
    for folder in DECLARED:
        yield from (root / folder).glob("*.yaml")
        yield from (root / folder).glob("*.yml")


def _texts(root: Path, paths: set[Path]) -> dict[str, JSON]:
    found: dict[str, JSON] = {}
    size = 0
    for path in sorted(paths):
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError:
            continue
        size += len(text)
        found[path.relative_to(root).as_posix()] = text
    if len(found) > MOST_FILES or size > MOST_BYTES:
        raise ConfigError(
            f"{root} holds {len(found):,} files of {size / 2**20:.0f} MiB, too much to be sent to"
            " other machines; install the plug-in as a package on each"
        )
    return found
