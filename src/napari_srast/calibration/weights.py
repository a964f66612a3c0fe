"""Own-slide calibration: how far to trust each expert, decided on the user's own slide.

The slide is coarsened once; its own spots then are known fine pixels. The experts (interpolations and the flow) predict
them, and a geometric pool log r = sum_e w_e(n) log r_e + const is fitted by its posterior mode. The prior, the fleet's,
is how weights were spread over studies that no network had seen; the likelihood is scaled to what the spots agree on.
So a small or noisy slide keeps the fleet's average, the problem is concave, and no optimizer can collapse. Sums of
weights below 1 soften the split towards even.

How surely one set of weights is better than another on the slide's own spots, Phi(gain / its standard error), is how
far the weights go from the other to the one, half-way where the check is silent: from the fleet's to the slide's, and
from a pool without the network, fitted in the same way, to that with it.

Shape legend: N spots, Q pixels, F fields, E experts, J = 2 E weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_srast.calibration.likelihood import scaled_log_count
from napari_srast.geometry.spot_pixel_map import SpotPixelMap

if TYPE_CHECKING:
    pass

__all__ = [
    "EXPERT_NAMES",
    "FLOW",
    "PROGRAM_EXPERT_NAMES",
    "PoolWeights",
    "pool_ratios",
    "pool_weights_from_dict",
]

EXPERT_NAMES = ("pcfm", "gp_denoised", "gp", "pycnophylactic_denoised", "bilinear", "gp_totals")
"""The experts of the pool, in the order of the weights."""
FLOW = EXPERT_NAMES.index("pcfm")
"""Place of the network among them."""
PROGRAM_EXPERT_NAMES = ("programs", "totals")
"""The experts of genes that are not split one by one: see :mod:`napari_srast.models.programs.program_fields`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PoolWeights:
    """Weights of the pool.

    Parameters
    ----------
    weights
        Shape (2, E): at no counts, and the change up to 100 counts; linear in log(1 + n), up to 1,000 counts.
    check_weights
        The same for the slide coarsened once, where the experts are worth something else.
    experts
        Names, length E.
    source
        "slide" where it was fitted on the slide itself, "fleet" where it is the average.
    nats, nats_fleet
        Nats per (tempered) count in the check on the slide, with these weights and with the fleet's; NaN for "fleet".
    trust
        How far the weights go from those of a plainer pool, 0, to those of all experts, 1: from the interpolations
        alone to the pool with the network; of maps that genes share, from the even split.
    """

    weights: np.ndarray
    check_weights: np.ndarray
    experts: tuple[str, ...] = EXPERT_NAMES
    source: str = "fleet"
    nats: float = float("nan")
    nats_fleet: float = float("nan")
    trust: float = 1.0

    def at(self, n: np.ndarray, *, check: bool = False) -> np.ndarray:
        """Return the weights at counts n (...), shape (..., E); with ``check`` those for the slide coarsened once."""
        weights = self.check_weights if check else self.weights
        return np.asarray(weights[0] + scaled_log_count(n)[..., None] * weights[1])

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the provenance."""
        return {
            "source": self.source,
            "experts": list(self.experts),
            "weights_shallow": self.weights[0].round(5).tolist(),
            "weights_slope": self.weights[1].round(5).tolist(),
            "nats_per_count": self.nats,
            "nats_per_count_fleet": self.nats_fleet,
            "trust_in_network" if self.experts == EXPERT_NAMES else "trust": self.trust,
        }


def pool_ratios(
    log_experts: np.ndarray, counts: np.ndarray, layout: SpotPixelMap, calibration: PoolWeights, *, check: bool = False
) -> np.ndarray:
    """Pool experts geometrically; returns log ratios, float64, shape (Q, F).

    Parameters
    ----------
    log_experts
        Log ratios of the experts, shape (E, Q, F).
    counts
        Counts of the spots, shape (N, F): they set the depth.
    check
        Whether the layout is the slide coarsened once.
    """
    weight = np.moveaxis(calibration.at(counts, check=check), -1, 0)[:, layout.parent]  # (E, Q, F)
    return _log_normalize(np.einsum("eqf,eqf->qf", weight, log_experts), layout)


def _log_normalize(score: np.ndarray, layout: SpotPixelMap) -> np.ndarray:
    """Return score - log sum exp over each spot's pixels."""
    peak = np.full((layout.n_spots, score.shape[1]), -np.inf)
    np.maximum.at(peak, layout.parent, score)
    shifted = score - peak[layout.parent]
    total = layout.membership @ np.exp(shifted)
    return shifted - np.log(np.maximum(total, 1e-300))[layout.parent]  # spots without pixels are never looked up


def pool_weights_from_dict(values: Mapping[str, object]) -> PoolWeights:
    """Rebuild a result's calibration from :meth:`PoolWeights.to_dict`; the weights for its check are not kept."""
    weights = np.array([values["weights_shallow"], values["weights_slope"]], dtype=float)
    return PoolWeights(weights=weights, check_weights=weights, experts=tuple(values["experts"]))  # type: ignore[arg-type]
