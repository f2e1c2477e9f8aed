"""Modules that moved: an import under an earlier name gives the module that stands there now.

Plug-ins, notebooks and scripts import modules by name.  Where a module of oodbench moved, the
earlier name goes on working: both names are one module, so that its classes stay one class.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

#: Earlier name to name, both below oodbench.
RENAMED: dict[str, str] = {
    "canonical": "canonical_json",
    "cli_check": "cli.check",
    "cli_diagnose": "cli.diagnose",
    "cli_export": "cli.export",
    "cli_figures": "cli.figures",
    "cli_list": "cli.list",
    "cli_new": "cli.new",
    "cli_publish": "cli.publish",
    "cli_report": "cli.report",
    "cli_run": "cli.run",
    "cli_store": "cli.store",
    "cli_sweep": "cli.sweep",
    "cli_tables": "cli.tables",
    "clitools": "cli.options",
    "datasets.archives": "datasets.sources.archives",
    "datasets.embedded": "datasets.sources.embedded",
    "datasets.loose": "datasets.single_images",
    "datasets.published": "datasets.sources.published",
    "datasets.raw": "datasets.sources.raw_images",
    "datasets.slot": "datasets.split_cache",
    "datasets.synthetic": "datasets.sources.synthetic",
    "datasets.userfiles": "datasets.sources.user_files",
    "detector": "detect.detector",
    "devices": "train.devices",
    "earlystop": "train.early_stopping",
    "entitlement": "detect.entitlement",
    "executors": "flow.executors",
    "executors.local": "flow.executors.local",
    "explain": "store.key_differences",
    "exporting": "deploy.exporting",
    "feed": "train.batches",
    "figures.choosing": "figures.chosen_runs",
    "figures.kinds": "figures.names",
    "figures.material": "figures.inputs",
    "fitting": "flow.fit",
    "jobkeys": "flow.keys",
    "measuring": "flow.measuring.blocks",
    "metrics": "rank.metrics",
    "missing": "flow.missing_steps",
    "models.allocation": "models.hierarchical.allocation",
    "models.backbones": "models.classifiers.backbones",
    "models.biva": "models.hierarchical.biva",
    "models.blocks": "models.hierarchical.blocks",
    "models.bottleneck": "models.dvp.bottleneck",
    "models.ceilings": "models.vae.importance_bounds",
    "models.class_gaussians": "models.classifiers.class_gaussians",
    "models.classifier": "models.classifiers.mutation_classifier",
    "models.collapse": "models.hierarchical.posterior_collapse",
    "models.conv_vae": "models.vae.conv_vae",
    "models.denoiser": "models.dvp.denoiser",
    "models.descent": "models.hierarchical.top_down_pass",
    "models.diffusion": "models.dvp.diffusion_prior",
    "models.dvp_config": "models.dvp.config",
    "models.fourier": "models.layers.fft_convolution",
    "models.gaussian": "models.layers.gaussian",
    "models.glow": "models.flows.glow",
    "models.hvae": "models.hierarchical.hvae",
    "models.image_classifier": "models.classifiers.image_classifier",
    "models.label_config": "models.classifiers.config",
    "models.likelihoods": "models.layers.likelihoods",
    "models.lvae": "models.hierarchical.lvae",
    "models.mixture_vib": "models.classifiers.mixture_vib",
    "models.noise": "models.layers.noise",
    "models.objectives": "models.hierarchical.objectives",
    "models.pixelcnn": "models.autoregressive.pixelcnn",
    "models.pixels": "models.layers.categorical_pixels",
    "models.pseudoinput": "models.dvp.pseudo_inputs",
    "models.quarters": "models.layers.transposed_convolution",
    "models.stacked": "models.vae.per_image_encoders",
    "models.stage": "models.hierarchical.stage",
    "models.teacher": "models.hierarchical.witness_teacher",
    "models.topdown": "models.hierarchical.top_down_inference",
    "models.vib": "models.classifiers.vib",
    "models.weightnorm": "models.layers.weight_norm",
    "models.witness": "models.hierarchical.simplex_witness",
    "optimisation": "train.optimisation",
    "pairs": "datasets.pairs",
    "parametrised": "declare.family_names",
    "payload": "store.payload",
    "plan": "flow.plan",
    "provenance": "store.provenance",
    "publishing": "share.publishing",
    "recipe_values": "declare.recipe_values",
    "recipes": "declare.recipes",
    "registry": "declare.registry",
    "resources": "declare.declarations",
    "runner": "flow.perform",
    "runrecord": "flow.run_records",
    "scorefunctions": "detect.score_functions",
    "scoring": "deploy.scoring",
    "sealed": "store.checkpoint_files",
    "selection": "flow.selection",
    "settings": "declare.settings",
    "significance": "rank.significance",
    "skeleton": "templates.skeleton",
    "sourcecode": "detect.source_fingerprints",
    "storage": "store.storage",
    "suites": "flow.suites",
    "tables.board": "leaderboards.board",
    "tables.boxed": "tables.render.console",
    "tables.compared": "leaderboards.compared_images",
    "tables.extras": "tables.extra_columns",
    "tables.fill": "tables.layout.filled",
    "tables.grid": "tables.layout.grid",
    "tables.head_to_head": "leaderboards.head_to_head",
    "tables.layout_files": "declare.layout_files",
    "tables.layouts": "declare.layouts",
    "tables.marks": "leaderboards.significance_marks",
    "tables.markup": "tables.layout.markup",
    "tables.numbers": "tables.sources.numbers",
    "tables.pairwise": "leaderboards.paired_tests",
    "tables.paper": "tables.against_paper",
    "tables.papers": "tables.sources.reported_scores",
    "tables.printed": "tables.after_run",
    "tables.published": "tables.sources.reported_tables",
    "tables.render_csv": "tables.render.csv_shape",
    "tables.render_html": "tables.render.html",
    "tables.render_latex": "tables.render.latex",
    "tables.render_markdown": "tables.render.markdown",
    "tables.render_text": "tables.render.text",
    "tables.results": "tables.sources.results",
    "trainable": "train.trainable",
    "training": "train.training",
    "transfer": "share.transfer",
    "upkeep": "store.maintenance",
    "yamlfile": "declare.yaml_files",
}


class _Renamed(MetaPathFinder, Loader):
    def __init__(self) -> None:
        self._own: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module that an earlier name stands for; None for every other name."""
        return ModuleSpec(name, self) if now(name) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module under its name of today."""
        module = importlib.import_module(str(now(spec.name)))
        self._own[module.__name__] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has run under its own name, and keeps the specification of that."""
        module.__spec__ = self._own.pop(module.__name__)


def now(name: str) -> str | None:
    """Today's name of a module of oodbench with an earlier name; None where it has not moved."""
    head, _, rest = name.partition(".")
    found = RENAMED.get(rest) if head == "oodbench" else None
    return f"oodbench.{found}" if found else None


def follow_renames() -> None:
    """Let imports under earlier names find their modules, once for the process."""
    if not any(isinstance(finder, _Renamed) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Renamed())
