"""What a test needs of the machine: skipped with a reason without it, and failed in CI.

CI is where the variable CI is true; `.ci/run` installs all of it there, so that a test that is
skipped is a test that nobody ran.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import NoReturn

import pytest


def lacking(reason: str, *, module: bool = False) -> NoReturn:
    """Skip the test, or the whole module; in CI fail instead."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"{reason}; in CI this test must run", pytrace=False)
    pytest.skip(reason, allow_module_level=module)


def needed_module(name: str, reason: str) -> ModuleType:
    """An imported module without which no test of the file makes sense."""
    try:
        return importlib.import_module(name)
    except ImportError:
        lacking(reason, module=True)
