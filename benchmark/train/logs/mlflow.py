"""``--log mlflow``: a run per fit; ``mlflow ui --backend-store-uri FOLDER`` shows it.

MLFLOW_TRACKING_URI, where it is set, goes before the folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oodbench.train.training_logs import missing_package

if TYPE_CHECKING:
    import numpy as np

    from oodbench.canonical_json import JSON

#: Characters of a parameter's value that mlflow keeps.
MOST = 500


class MLflowLog:
    """Metrics over steps, settings as parameters, images as artifacts."""

    def __init__(self, folder: Path) -> None:
        try:
            mlflow: Any = import_module("mlflow")
        except ImportError as error:
            raise missing_package("mlflow", "mlflow") from error
        self.mlflow = mlflow
        #: Where images go; "" leaves it to the server that MLFLOW_TRACKING_URI names.
        self.artifacts = ""
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            folder.mkdir(parents=True, exist_ok=True)
            mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').absolute()}")
            self.artifacts = (folder / "artifacts").absolute().as_uri()

    def start(self, name: str, settings: Mapping[str, JSON]) -> None:
        """A run of the experiment oodbench."""
        if self.artifacts and self.mlflow.get_experiment_by_name("oodbench") is None:
            self.mlflow.create_experiment("oodbench", artifact_location=self.artifacts)
        self.mlflow.set_experiment("oodbench")
        self.run = self.mlflow.start_run(run_name=name, nested=True)
        self.mlflow.log_params({key: str(value)[:MOST] for key, value in settings.items()})

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics over steps."""
        self.mlflow.log_metrics(dict(values), step=step, run_id=self.run.info.run_id)

    def images(self, step: int, shown: Mapping[str, np.ndarray]) -> None:
        """A picture a name, the images side by side."""
        import numpy as np

        for name, images in shown.items():
            row = np.concatenate(list(images.transpose(0, 2, 3, 1)), axis=1)
            self.mlflow.log_image(row, key=name, step=step)

    def close(self) -> None:
        """The run is finished."""
        self.mlflow.end_run()
