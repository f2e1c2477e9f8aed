"""Trainings watched in other tools through one hook, which changes no result and stops none."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from in_process import invoke

from oodbench.canonical_json import JSON
from oodbench.store.store import Store
from oodbench.train.training_logs import LOGS, register_log

RUN = ("run", "--pair", "digits-photos", "--scale", "smoke", "--detector", "vanilla-hvae",
       "--set", "training.epoch_images=64", "--set", "training.max_images=64")  # fmt: skip


class Remembering:
    """Keeps what it is told."""

    told: list[tuple[str, object]] = []  # noqa: RUF012 - of all of them

    def __init__(self, folder: Path) -> None:
        self.told.append(("folder", folder))

    def start(self, name: str, settings: Mapping[str, JSON]) -> None:
        self.told.append(("start", (name, dict(settings))))

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        self.told.append(("epoch", (step, dict(values))))

    def images(self, step: int, shown: Mapping[str, np.ndarray]) -> None:
        self.told.append(("images", (step, dict(shown))))

    def close(self) -> None:
        self.told.append(("close", None))


class Failing(Remembering):
    """Ends at the first epoch."""

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        raise OSError("no space for a log")


def fits(folder: Path) -> list[bytes]:
    return [e.read("weights.safetensors") for e in Store(folder / "results/store").entries("fit")]


@pytest.fixture(scope="module")
def unwatched(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The weights of the same fit without a log."""
    folder = tmp_path_factory.mktemp("unwatched")
    assert invoke(folder, *RUN, "--quiet")[0] == 0
    return fits(folder)


def test_a_log_of_a_plug_in_sees_curves_layers_and_images_and_changes_nothing(
    tmp_path: Path, unwatched: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOGS._objects, "remembering", Remembering)
    Remembering.told.clear()
    assert invoke(tmp_path, *RUN, "--quiet", "--log", "remembering=here")[0] == 0
    kinds = [kind for kind, _ in Remembering.told]
    assert kinds == ["folder", "start", "epoch", "images", "epoch", "images", "close"]
    told = dict(Remembering.told)
    name, settings = told["start"]  # type: ignore[misc]
    assert told["folder"] == Path("here")
    assert "vanilla-hvae" in name
    assert settings["training.epoch_images"] == 64
    step, values = told["epoch"]  # type: ignore[misc]
    assert step == 4
    assert {"loss", "bits_per_dim", "kl_1", "kl_2"} <= set(values)
    shown = told["images"][1]  # type: ignore[index]
    for images in shown.values():
        assert (images.shape, images.dtype) == ((8, 1, 8, 8), np.uint8)
    assert set(shown) == {"images", "reconstructions"}
    assert fits(tmp_path) == unwatched


def test_a_log_that_fails_ends_itself_alone_and_says_so(
    tmp_path: Path, unwatched: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOGS._objects, "failing", Failing)
    status, _, err = invoke(tmp_path, *RUN, "--log", "failing")
    assert status == 0
    assert "--log failing ends here, the training goes on: no space for a log" in err
    assert fits(tmp_path) == unwatched


def test_names_are_looked_up_before_anything_runs(tmp_path: Path) -> None:
    status, _, err = invoke(tmp_path, *RUN, "--log", "tensorbord")
    assert (status, "nearest: tensorboard" in err) == (2, True)
    assert not (tmp_path / "results/store").exists()
    with pytest.raises(Exception, match="give a class"):
        register_log("none", 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mlflow", "wandb", "tensorboard"])
def test_a_package_that_is_not_here_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "torch.utils.tensorboard" if name == "tensorboard" else name
    monkeypatch.setitem(sys.modules, module, None)
    status, _, err = invoke(tmp_path, *RUN, "--quiet", "--log", name)
    assert status == 2
    assert f"--log {name} needs the package {name}; pip install 'oodbench[{name}]'" in err


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert invoke(tmp_path, *RUN, "--quiet", "--log", "tensorboard")[0] == 0
    (run,) = (tmp_path / "results/logs/tensorboard").iterdir()
    found = EventAccumulator(str(run))
    found.Reload()
    tags = found.Tags()
    assert {"train/loss", "train/bits_per_dim", "kl/layer_1", "kl/layer_2"} <= {*tags["scalars"]}
    assert [event.step for event in found.Scalars("train/loss")] == [2, 4]
    assert any(tag.startswith("reconstructions") for tag in tags["images"])


def test_mlflow_holds_the_run_and_writes_nowhere_else(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    assert invoke(tmp_path, *RUN, "--quiet", "--log", "mlflow")[0] == 0
    folder = tmp_path / "results/logs/mlflow"
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("oodbench")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["training.epoch_images"] == "64"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == [2, 4]
    assert {"bits_per_dim", "kl_1", "kl_2"} <= {*run.data.metrics}
    pictures = [found.path for found in client.list_artifacts(run.info.run_id, "images")]
    assert {name for name in ("images", "reconstructions")
            if any(Path(path).name.startswith(name) for path in pictures)
            } == {"images", "reconstructions"}  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {"results"}
    assert {path.name for path in folder.iterdir()} == {"mlflow.db", "artifacts"}


def test_wandb_without_a_network_writes_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    for name, value in (("WANDB_MODE", "offline"), ("WANDB_SILENT", "true")):
        monkeypatch.setenv(name, value)
    assert invoke(tmp_path, *RUN, "--quiet", "--log", "wandb")[0] == 0
    (run,) = (tmp_path / "results/logs/wandb/wandb").glob("offline-run-*")
    (held,) = run.glob("run-*.wandb")
    content = held.read_bytes()
    for name in (b"loss", b"bits_per_dim", b"kl_1", b"kl_2", b"training.epoch_images"):
        assert name in content
    pictures = [path.name for path in (run / "files/media/images").glob("*.png")]
    assert len([name for name in pictures if name.startswith("reconstructions_")]) == 16
    assert {path.name for path in tmp_path.iterdir()} == {"results"}


def test_nothing_is_imported_unasked() -> None:
    code = (
        "import sys; from oodbench.train.training_logs import LOGS; LOGS.names();"
        " print([m for m in sys.modules if m.partition('.')[0] in"
        " ('tensorboard', 'mlflow', 'wandb', 'torch')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
