"""Everything that is learned of one slide before a pixel of it is split: its feature pool and its calibration.

Made once for a slide and a checkpoint, then kept in memory, so that a second region costs only its own work.

Shape legend: N spots, Q pixels, G genes, F fields, E experts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast.calibration.weights import EXPERT_NAMES
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation import HaloContext, Interpolator
from napari_srast.models.pcfm.condition import INTERPOLATION_EXPERTS, FlowInputs, SpotNeighborhoods, condition_fields
from napari_srast.models.pcfm.field_statistics import FieldStatistics
from napari_srast.models.pcfm.network import DiT
from napari_srast.models.pcfm.sampler import Sampler
from napari_srast.models.sasa.embedding import SlideEmbedding, SpotEmbedding

__all__ = [
    "Experts",
    "log_experts_of",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Experts:
    """All experts of the pool on one layout.

    Parameters
    ----------
    layout, pool, geometry, interpolator
        Of the slide (or of the slide coarsened once).
    network
        The flow.
    """

    layout: SpotPixelMap
    pool: SlideEmbedding | SpotEmbedding
    geometry: SpotNeighborhoods
    interpolator: Interpolator
    network: DiT

    @classmethod
    def on(
        cls,
        layout: SpotPixelMap,
        pool: SlideEmbedding | SpotEmbedding,
        network: DiT,
        surroundings: HaloContext | None = None,
    ) -> Experts:
        """Prepare the experts for a layout, or for a part of a slide with its surroundings."""
        geometry = SpotNeighborhoods.of_layout(layout, pool)
        interpolator = Interpolator(layout, surroundings)
        return cls(layout=layout, pool=pool, geometry=geometry, interpolator=interpolator, network=network)

    def predict(
        self,
        counts: sparse.csr_matrix,
        should_stop: Callable[[], bool] | None = None,
        known: FieldStatistics | None = None,
    ) -> tuple[FlowInputs, np.ndarray]:
        """Return the condition of fields (N, F), and the experts' log ratios (E, Q, F) in the order of the pool.

        A part of a slide needs what is ``known`` of the fields over the whole of it.
        """
        condition = condition_fields(self.layout, self.pool, self.geometry, self.interpolator, counts, known)
        return condition, log_experts_of(self.network, condition, self.layout, should_stop)


def log_experts_of(
    network: DiT, condition: FlowInputs, layout: SpotPixelMap, should_stop: Callable[[], bool] | None = None
) -> np.ndarray:
    """Return the experts' log ratios of fields whose condition is known, (E, Q, F) in the order of the pool."""
    flow = Sampler().mean(network, condition, should_stop)
    log_k = np.log(layout.n_pixels_of_spot[layout.parent])[:, None]
    told = {name: condition.experts[i].numpy() - log_k for i, name in enumerate(INTERPOLATION_EXPERTS)}
    return np.stack([flow if name == "pcfm" else told[name] for name in EXPERT_NAMES]).astype(np.float64)
