"""States of any tensors come back as they were; labels of any kind are understood or named."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import invoke

import oodbench
from oodbench.datasets.reading.labels import understand
from oodbench.store.payload import pack_tensors, unpack_tensors

MATRIX = torch.arange(24.0).reshape(2, 3, 4)
CLASSES = np.arange(60) % 3


@pytest.mark.parametrize("state", [
    {"a": MATRIX, "b": MATRIX}, {"a": MATRIX, "b": MATRIX[0]}, {"a": MATRIX.permute(2, 1, 0)},
    {"a": MATRIX[:, ::2]}, {"a": torch.tensor(3.0)}, {"a": torch.zeros(0)},
    {"a": torch.zeros(0, 4)},
    {"a": MATRIX > 3}, {"a": MATRIX.long()}, {"a": torch.nn.Parameter(MATRIX)},
    {"a.b/c d": MATRIX, "é": MATRIX}, {"a": MATRIX[0].expand(5, 3, 4)}, {},
    *({"a": MATRIX.to(kind)} for kind in (torch.bfloat16, torch.float16, torch.float64,
                                          torch.complex64, torch.float8_e4m3fn, torch.uint8)),
])  # fmt: skip
def test_a_state_comes_back_as_it_was(state: dict[str, torch.Tensor]) -> None:
    found = unpack_tensors(pack_tensors(state))
    assert list(found) == list(state)
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        raw = [one.detach().contiguous().view(torch.uint8) if one.numel() and one.dim() else
               one.detach().reshape(-1) for one in (found[name], tensor)]  # fmt: skip
        assert torch.equal(*raw)


def test_a_state_keeps_its_order() -> None:
    names = ("mean", "sd", "b", "a")
    for order in itertools.permutations(names):
        state = {name: torch.full((2,), float(place)) for place, name in enumerate(order)}
        found = unpack_tensors(pack_tensors(state))
        assert [float(value[0]) for value in found.values()] == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(("labels", "classes"), [
    (CLASSES, ()), (CLASSES.astype(float), ()), (CLASSES[:, None], ()),
    (CLASSES.astype(np.uint8), ()),
    (np.eye(3, dtype=int)[CLASSES], ()), (np.eye(3)[CLASSES], ()),
    (np.eye(3, dtype=bool)[CLASSES], ()),
    (np.array(["cat", "dog", "owl"])[CLASSES], ("cat", "dog", "owl")),
    (np.array([b"cat", b"dog", b"owl"])[CLASSES], ("cat", "dog", "owl")),
])  # fmt: skip
def test_labels_of_many_kinds_are_the_same_classes(
    labels: np.ndarray, classes: tuple[str, ...]
) -> None:
    found = understand({"": labels}, {"": 60})
    assert found.problem == ""
    assert found.classes == classes
    np.testing.assert_array_equal(found.of(""), CLASSES)


@pytest.mark.parametrize(("labels", "problem"), [
    (CLASSES[:50], "60 images have 50 labels"), (CLASSES + 0.5, "they are no whole numbers"),
    (np.where(CLASSES == 0, np.nan, CLASSES), "they are no whole numbers"),
    (np.ones((60, 14), int), "there are several for an image, 14 columns"),
    (np.zeros((60, 3), int), "there are several for an image, 3 columns"),
    (CLASSES.astype("datetime64[s]"), "they are of the type datetime64"),
    (np.zeros((60, 2, 2)), "they have the shape"),
])  # fmt: skip
def test_labels_that_are_none_say_why_and_stop_nobody(
    labels: np.ndarray, problem: str, tmp_path: Path
) -> None:
    assert problem in understand({"": labels}, {"": 60}).problem
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=images, labels=labels)
    run = ("run", "--in-dist", "x.npz", "--ood", "digits", "--quiet", "--detector")
    status, out, err = invoke(tmp_path, *run, "mean-intensity")
    assert (status, err) == (0, "")
    assert f"x.npz: labels are not used: {problem}" in " ".join(out.split())
    status, _, err = invoke(tmp_path, *run, "energy", "--scale", "smoke")
    assert status == 2
    assert f"the labels of x.npz cannot be used ({problem}" in err


def test_classes_of_any_numbers_or_names_train_the_same_classifier(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    short = {"training.epochs": 1, "training.epoch_images": 32}
    found = []
    for number, labels in enumerate((CLASSES, CLASSES * 2**40 - 1,
                                     np.array(["cat", "dog", "owl"])[CLASSES])):  # fmt: skip
        np.savez(tmp_path / f"{number}.npz", images=images, labels=labels)
        frame = oodbench.run(
            in_dist=tmp_path / f"{number}.npz", ood="digits", detectors="energy", scale="smoke",
            overrides=short, store=tmp_path / f"store{number}", quiet=True,
        )  # fmt: skip
        found.append(frame.value.tolist())
    assert found[0] == found[1] == found[2]


def test_a_share_is_no_percentage(tmp_path: Path) -> None:
    status, _, err = invoke(tmp_path, "export", "mean-intensity", "--in-dist", "digits", "--out",
                            "e", "--tpr", "0.95")  # fmt: skip
    assert (status, err) == (
        2, "oodbench: error: --accept 0.95 is a share; give percent, --accept 95\n"
    )  # fmt: skip
    assert not (tmp_path / "e").exists()
