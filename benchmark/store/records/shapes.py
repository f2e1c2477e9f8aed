"""What a record must look like, stage by stage, so that whoever reads it may rely on it.

A record of one's own has been written by this code; what is asked of it is what every table needs.
One that was imported was written by anybody: it has to be complete, and all of its text printable.
Fields that are not named here may hold anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from oodbench.canonical_json import JSON

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**53)]
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
#: A number of a layer, or of all of them, or as text (``3/8``).
Told = float | str | bool | None | list[float | str | bool | None]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Interval(_Part):
    value: Share
    low: Share
    high: Share


class _Score(_Part):
    auroc: _Interval
    auprc: _Interval
    fpr80: _Interval
    fpr95: _Interval
    n_id: Annotated[int, Field(ge=1, le=2**53)]
    n_ood: Count
    distinct_id: Count
    distinct_ood: Count
    members: Count = 1
    oracle: str = ""


class _Side(_Part):
    bits_per_dim: float | None = None
    bits_per_dim_k: list[float] = []
    kl_nats: float | list[float] = []
    active_units: int | str | list[str] = []


class _Cost(_Part):
    passes: str = ""
    device: str = ""
    ms_per_image: Amount | None = None
    train_seconds: Amount | None = None
    peak_memory_mb: Amount | None = None
    parameters: Count | None = None
    train_images: Count | None = None
    members: Count | None = None


class _Source(_Part):
    name: str
    revision: Count
    scheme: int = 0
    sha256: str | None = None
    settings_revision: Count = 0


class _Metrics(_Part):
    revision: Count
    equal_size_seed: int = 0


class _RunParts(_Part):
    id_scores: Digest
    ood_scores: Digest
    metrics: _Metrics


class _Sides(_Part):
    id: Count
    ood: Count


class _Made(_Part):
    """What any stage may have."""

    created: str
    source: dict[str, _Source] = {}
    machine: dict[str, Told] = {}
    abridged: str = ""


class _Run(_Made):
    parts: _RunParts
    pair: str
    in_dist: str
    ood: str
    detector: str
    title: str
    category: str
    cite: str = ""
    seed: int
    noise: Count = 0
    configuration: str
    recipe: str
    scale: str
    variant: str
    layers: Count
    n: Count
    available: _Sides | None = None
    reference: Count = 0
    notes: list[str]
    duplicates: list[str] = []
    scores: Annotated[dict[str, _Score], Field(min_length=1)]
    score_order: list[str] = []
    diagnostics: dict[str, dict[str, object]]  # a plug-in says what it likes
    cost: _Cost

    @model_validator(mode="after")
    def _names_are_scores(self) -> _Run:
        named = [*self.score_order, *(s.oracle for s in self.scores.values() if s.oracle)]
        for name in named:
            if name not in self.scores:
                raise ValueError(f"{name!r} is no score of it")
        return self


class _ImportedRun(_Run):
    diagnostics: dict[str, _Side]  # type: ignore[assignment]


class _ScoreParts(_Part):
    measure: Digest
    reference: Digest | None = None
    validation: list[Digest] = []


class _Scored(_Made):
    parts: _ScoreParts
    choice: str = ""
    validation: str = ""


class _MeasureParts(_Part):
    fits: list[str] = []


class _Measured(_Made):
    parts: _MeasureParts
    seconds: Amount = 0
    images: Count = 0
    ms_per_image: Amount = 0
    peak_memory_mb: Amount = 0


class _Fit(_Made):
    seconds: Amount = 0
    images_per_second: Amount = 1
    parameters: Count = 0
    train_images: Count = 0
    name: str = ""
    in_dist: str = ""
    recipe: str = ""
    variant: str = ""


class _Layer(_Part):
    layer: int
    units: Count
    active_units: Count
    kl_nats: float
    nll_bits_per_dim: float | None
    bound_bits_per_dim: float | None
    E_mu_sq: float
    K: Count
    information_nats: float
    information_limit_nats: float
    I_T_nats: float
    L_TS_nats: float
    G_T_nats: float
    fitted_G_T_nats: float
    code_energy_nats: float
    own_witness: bool
    certified: bool
    fitted_certified: bool


class _DiagnosisParts(_Part):
    fit: Digest
    noise: Count = 0


class _Diagnosis(_Made):
    parts: _DiagnosisParts
    name: str
    in_dist: str
    recipe: str
    variant: str
    seed: int
    images: Count
    layers: list[dict[str, Told]]


class _ImportedScored(_Scored):
    name: str


class _ImportedMeasureParts(_MeasureParts):
    images: Digest
    subset: Count = 0
    fits: list[Digest]


class _ImportedMeasured(_Measured):
    parts: _ImportedMeasureParts
    name: str
    seconds: Amount
    images: Annotated[int, Field(ge=1, le=2**53)]
    ms_per_image: Amount
    machine: dict[str, Told]


class _ImportedFit(_Fit):
    name: str
    in_dist: str
    seconds: Amount
    train_images: Count
    machine: dict[str, Told]


class _ImportedDiagnosis(_Diagnosis):
    layers: Annotated[list[_Layer], Field(min_length=1)]  # type: ignore[assignment]


OWN: Mapping[str, type[_Made]] = {
    "run": _Run, "score": _Scored, "measure": _Measured, "fit": _Fit, "diagnosis": _Diagnosis,
}  # fmt: skip
IMPORTED: Mapping[str, type[_Made]] = {
    "run": _ImportedRun,
    "score": _ImportedScored,
    "measure": _ImportedMeasured,
    "fit": _ImportedFit,
    "diagnosis": _ImportedDiagnosis,
}


def misfit(record: Mapping[str, JSON], *, imported: bool) -> str:
    """The first thing in a sound record that no reader could use, in words; "" where it fits."""
    try:
        _adapter(str(record["stage"]), imported).validate_python(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:80]
        return f"{place}: {first['msg']}" if place else str(first["msg"])
    if not imported:
        return ""
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "a text in it holds half a character"
    return ""


@cache
def _adapter(stage: str, imported: Literal[True, False]) -> TypeAdapter[_Made]:
    return TypeAdapter((IMPORTED if imported else OWN)[stage])
