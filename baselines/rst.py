"""RST-VAE: a VAE whose mean is held to a teacher by a simplex witness, and the VAE without.

Zhang, Peng, Zhang, "A Simplex Witness Certificate for Constant Collapse in Variational
Autoencoders", arXiv 2605.18224.  The loss is NLL + α_KL KL + λ_TS L_TS
(`oodbench.models.hierarchical.simplex_witness`);
`rst-prefit` first brings the mean to the exact code, as we read its name.  `rst-plain-vae` is the
same network, teacher and witness with λ_TS = 0: the witness has not been trained on.

The paper reports no OOD scores; L = −ELBO is that of any VAE, higher = more OOD.  The certificate
stands among the diagnostics of a run: I_T, L_TS, G_T of the measured images (nats).
Cost per image: two encoder and two decoder passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from oodbench.baselines.hvae import HierarchicalVAE
from oodbench.detect.detector import Statistics, register
from oodbench.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.canonical_json import JSON
    from oodbench.models.hierarchical.witness_teacher import Witness
    from oodbench.seeding import KeyedNoise

CITE = "arXiv 2605.18224"


class WitnessedVAE(HierarchicalVAE):
    """−ELBO of a one-layer VAE, and the certificate of its mean among the diagnostics."""

    measure_name = "witnessed-vae"
    revision = 1
    measure_revision = 2
    cost = "2e + 2g"
    score_patterns: ClassVar[Sequence[str]] = ("L",)
    unoriented: ClassVar[Mapping[str, str]] = {
        "L": "a Bernoulli likelihood sees draws of black and white, to which grey waves are noise"
    }

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the one trained model; ConfigError where its recipe gives it no witness."""
        super().attach(models)
        if self.model.witness is None:
            raise ConfigError(
                f"{self.name} needs model.objective.witness in its recipe; vanilla-hvae is the"
                " detector of a model without"
            )

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> Statistics:
        """As `HierarchicalVAE.measure`, and alignment (B,), energy (B,): KL(T_x ‖ S(μ)), ‖μ‖²."""
        found = super().measure(images, noise)
        witness: Witness | None = self.model.witness
        assert witness is not None
        target = witness.teacher(images)
        mean = self.model.posteriors(images, noise)[-1].mean.double()
        found["alignment"] = witness.alignment(target, mean)
        found["energy"] = (mean**2).sum(1)
        found.totals["teacher"] = target.sum(0)
        found.totals["teacher_neg_entropy"] = (target * target.log()).sum()
        return found

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """L = −ELBO."""
        return {"L": -statistics["elbo"]}

    def score_names(self) -> list[str]:
        """L alone."""
        return ["L"]

    def diagnose(
        self,
        statistics: Mapping[str, np.ndarray],
        totals: Mapping[str, np.ndarray],
        shape: tuple[int, int, int],
    ) -> dict[str, JSON]:
        """As `HierarchicalVAE.diagnose`, and the columns of the paper's table.

        I_T = H(T̄) − E H(T_x), with T̄ over the measured images.
        """
        import numpy as np

        count = len(statistics["elbo"])
        mean = totals["teacher"] / count
        information = float(totals["teacher_neg_entropy"] / count - (mean * np.log(mean)).sum())
        alignment = float(statistics["alignment"].mean())
        found = super().diagnose(statistics, totals, shape)
        return found | {
            "I_T_nats": information,
            "L_TS_nats": alignment,
            "G_T_nats": information - alignment,
            "reconstruction": float(statistics["nll"][:, 0].mean()),
            "KL_nats": float(statistics["kl_0"].sum(axis=1).mean()),
            "E_mu_sq": float(statistics["energy"].mean()),
        }


@register("rst-vae", cite=CITE, title="RST-VAE")
class RSTVAE(WitnessedVAE):
    """Trained with the alignment loss."""

    recipe_variant = "rst"


@register("rst-prefit", cite=CITE, title="RST-prefit")
class RSTPrefit(WitnessedVAE):
    """Prefitted to the exact code, then trained with the alignment loss."""

    recipe_variant = "rst-prefit"


@register("rst-plain-vae", cite=CITE, title="VAE, witness not trained")
class PlainVAE(WitnessedVAE):
    """Trained on the ELBO; teacher and witness only look on."""

    recipe_variant = "rst-plain"
