"""Fingerprints of the source that a result comes from, to notice a change without a new `revision`.

Keys hold revisions, not sources: a comment must not throw a week of training away.  So each record
keeps a fingerprint of its detector's source (and of its model's), and whoever prints stored results
compares it with the source of today.  It covers what the class really uses: its own code and all
functions, classes and values that it refers to, in `oodbench.baselines`, `oodbench.models` and the
package or folder of a plug-in, each in its normal form (`oodbench.detect.source.normal_form`), in
the order in which they are first named.  So a move, another name of a file or of what stands in it,
a comment, a docstring or an annotation changes nothing; a formula, a constant or a default does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, cast

from oodbench.canonical_json import JSON, digest
from oodbench.detect.source.compiled import compiled_parts
from oodbench.detect.source.live import NoSourceError, class_parts
from oodbench.detect.source.normal_form import Parts, effects, normal_form
from oodbench.errors import PluginError

if TYPE_CHECKING:
    from oodbench.declare.recipes import Recipe
    from oodbench.detect.detector import Detector
    from oodbench.detect.source.definitions import Definition
    from oodbench.detect.source.modules import Module
    from oodbench.store.store import Entry

#: How fingerprints are made; those of another scheme, or of none, say nothing about today's source.
SCHEME = 2
#: That of classes without a text, by their compiled code: one for every version of Python.
COMPILED = 1_000_000 * SCHEME + 1_000 * sys.version_info[0] + sys.version_info[1]


def source_record(detector: Detector, recipe: Recipe | None) -> dict[str, JSON]:
    """What a record keeps: name, revision and source hash of the detector and of the model.

    With the model, how often the settings of its recipe and of the companions have changed their
    meaning (`oodbench.declare.recipes.Recipe.settings_revision`).
    """
    cls: type = type(detector)
    parts: dict[str, JSON] = {"detector": _part(detector.name, detector.revision, cls)}
    if recipe is not None:
        config = type(recipe.config)
        model = _part(config.name, config.revision, config)
        settings = sum(r.settings_revision for r in (recipe, *detector.companion_recipes))
        parts["model"] = model | ({"settings_revision": settings} if settings else {})
    return parts


def _part(name: str, revision: int, cls: type) -> dict[str, JSON]:
    scheme, found = scheme_and_fingerprint(cls)
    return {"name": name, "revision": revision, "scheme": scheme, "sha256": found}


def scheme_and_fingerprint(cls: type) -> tuple[int, str]:
    """How a class is identified, by its text or, without one, by its compiled code; and by what."""
    text = fingerprint(cls)
    if text is not None:
        return SCHEME, text
    return COMPILED, digest(cast(JSON, compiled_parts(cls)))


def detector_source(cls: type) -> str | None:
    """Fingerprint of a detector's class; None where its source cannot be read."""
    return fingerprint(cls)


def model_source(config: type) -> str | None:
    """Fingerprint of the network that a configuration names or builds; None without a source."""
    return fingerprint(config)


def fingerprint(cls: type) -> str | None:
    """SHA-256 over the normal forms of a class and of all that it uses; None without a source."""
    try:
        return _digest(class_parts(cls))
    except NoSourceError:
        return None


def _digest(root: Parts) -> str:
    """Digest of the text of `root` and, once each, of all definitions that are reached from it."""
    numbers: dict[Definition, int] = {}
    reached: list[Definition] = []
    modules: set[Module] = set()

    def shown(parts: Parts) -> str:
        pieces = []
        for part in parts:
            if isinstance(part, str):
                pieces.append(part)
                continue
            if part not in numbers:
                numbers[part] = len(reached)
                reached.append(part)
            pieces.append(f"@{numbers[part]}")
        return "".join(pieces)

    texts = [shown(root)]
    for definition in reached:  # grows while it is gone through
        texts.append(shown(normal_form(definition)))
        if definition.module.effects and definition.module not in modules:
            modules.add(definition.module)
            texts.append(shown(effects(definition.module)))
    return digest(cast(JSON, texts))


def changed_sources(entries: Iterable[Entry]) -> list[str]:
    """One line that names every detector and model that changed since results were stored.

    Only such as are registered here under the recorded revision can be compared, and of these only
    fingerprints of today's scheme.
    """
    found: dict[tuple[str, str], int] = {}
    today: dict[tuple[str, str], tuple[int, int, str] | None] = {}
    changed: set[str] = set()
    for entry in entries:
        source = entry.record.get("source")
        source = source if isinstance(source, Mapping) else {}
        for kind, part in source.items():
            if entry.stage == "fit" and kind != "model" and "model" in source:
                continue  # a recipe's model is the same whichever detector had it trained
            held = cast("Mapping[str, JSON]", part)
            key, revision = (kind, str(held["name"])), int(cast(int, held["revision"]))
            if held.get("scheme") not in (SCHEME, COMPILED) or held["sha256"] is None:
                continue
            if key not in today:
                today[key] = _today(*key)
            now = today[key]
            known = (revision, held["scheme"])
            if now is not None and now[:2] == known and now[2] != held["sha256"]:
                found[key] = revision
                changed.add(entry.digest)
    return [_note(found, len(changed))] if found else []


def _today(kind: str, name: str) -> tuple[int, int, str] | None:
    """Revision, scheme and fingerprint of a detector or model as it is registered now."""
    from oodbench.declare.recipes import MODELS
    from oodbench.detect.detector import DETECTORS

    registry = DETECTORS if kind == "detector" else MODELS
    if name not in registry.names():
        return None
    try:
        cls = cast(type, registry.get(name))
    except PluginError:
        return None
    return (getattr(cls, "revision", 1), *scheme_and_fingerprint(cls))


def _note(found: Mapping[tuple[str, str], int], results: int) -> str:
    names = {kind: [repr(n) for k, n in found if k == kind] for kind in ("detector", "model")}
    who = " and ".join(
        f"{kind}{'s' if len(known) > 1 else ''} {', '.join(known)}"
        for kind, known in names.items()
        if known
    )
    revisions = list(found.values())
    still = (
        f"its revision is still {revisions[0]}"
        if len(revisions) == 1
        else "their revisions are the same"
    )
    return (
        f"the source of {who} is not that of {results} stored result{'s' if results > 1 else ''},"
        f" but {still}; if numbers change, set a new `revision` and run again"
    )
