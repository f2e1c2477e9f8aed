"""A caller's torch state changes no number and is put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
import torch
from torch.overrides import _get_current_function_mode_stack

import oodbench
from oodbench.store.store import Store
from oodbench.train.torch_state import own_torch_state

SHORT = {"training": {"epochs": 1, "epoch_images": 64}, "measure": {"max_images": 20}}


@contextmanager
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


STATES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "float64": float64,
    "meta": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


def told() -> tuple[object, ...]:
    return (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype(),
            torch.empty(0).device, torch.is_autocast_enabled("cpu"))  # fmt: skip


@pytest.mark.parametrize("name", STATES)
def test_the_state_is_ours_inside_and_the_caller_s_after(name: str) -> None:
    plain = told()
    with STATES[name]():
        before = told()
        assert before != plain
        with own_torch_state():
            assert told() == plain
        assert told() == before
        with pytest.raises(RuntimeError, match="inside"), own_torch_state():
            raise RuntimeError("inside")
        assert told() == before
    assert told() == plain


def test_it_costs_an_operation_nothing() -> None:
    """A device's context calls back into Python at every one."""
    before = len(_get_current_function_mode_stack())
    with own_torch_state():
        assert len(_get_current_function_mode_stack()) == before
    with torch.device("meta"), own_torch_state():
        assert torch.empty(0).device.type == "cpu"


def statistics(store: Path) -> dict[str, str]:
    files = {}
    for entry in Store(str(store)).entries("measure"):
        files[entry.digest] = str(entry.record["files"])
    return files


def test_a_run_gives_the_same_files_in_any_state(tmp_path: Path) -> None:
    def run(name: str) -> dict[str, str]:
        oodbench.run("digits-photos", "vanilla-hvae", scale="smoke", overrides=SHORT,
                     store=str(tmp_path / name), device="cpu", quiet=True)  # fmt: skip
        return statistics(tmp_path / name)

    plain = run("plain")
    with ExitStack() as stack:
        for name in ("no_grad", "float64", "autocast"):
            stack.enter_context(STATES[name]())
        assert run("changed") == plain
    assert plain
