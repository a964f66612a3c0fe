"""Predict the log ratios of all experts of the pool: the flow and the interpolations.

Shape legend: n spots, Q pixels, F fields, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from napari_srast.arrays import LogRatios
from napari_srast.calibration.pooling import EXPERT_NAMES
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.geometry.disc_support import DiscSupport
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation import HaloContext, Interpolator
from napari_srast.models.pcfm.field_statistics import FieldStatistics
from napari_srast.models.pcfm.inputs import INTERPOLATION_EXPERTS, FlowInputs, SpotNeighborhoods, build_flow_inputs
from napari_srast.models.pcfm.network import DiT
from napari_srast.models.pcfm.sampler import FlowSampler
from napari_srast.models.sasa.embedding import SlideEmbedding, SpotEmbedding

__all__ = ["Experts", "log_experts_of"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Experts:
    """All experts of the pool on one layout.

    Parameters
    ----------
    layout
        Spots and pixels of the slide, the coarsened slide, or a tile.
    embedding
        SASA features of the spots.
    neighborhoods
        Geometry of the flow's inputs.
    interpolator
        Interpolations on the layout.
    network
        The flow.
    sampler
        Integrates it.
    """

    layout: SpotPixelMap
    embedding: SlideEmbedding | SpotEmbedding
    neighborhoods: SpotNeighborhoods
    interpolator: Interpolator
    network: DiT
    sampler: FlowSampler = field(default_factory=FlowSampler)

    @classmethod
    def for_layout(
        cls,
        layout: SpotPixelMap,
        embedding: SlideEmbedding | SpotEmbedding,
        network: DiT,
        halo: HaloContext | None = None,
        sampler: FlowSampler | None = None,
        support: DiscSupport | None = None,
    ) -> Experts:
        """Prepare the experts for a layout, or for a tile with its halo.

        The discs that the spots measure are an input of networks that were trained with them; None if the spots
        measure all of their pixels.
        """
        neighborhoods = SpotNeighborhoods.from_layout(layout, embedding)
        return cls(
            layout=layout,
            embedding=embedding,
            neighborhoods=neighborhoods.with_support(support) if network.config.support else neighborhoods,
            interpolator=Interpolator(layout, halo),
            network=network,
            sampler=sampler or FlowSampler(),
        )

    def predict(
        self,
        counts: sparse.csr_matrix,
        monitor: RunMonitor = NO_MONITOR,
        statistics: FieldStatistics | None = None,
        needed: np.ndarray | None = None,
    ) -> tuple[FlowInputs, LogRatios]:
        """Predict fields.

        Parameters
        ----------
        counts
            Counts of the spots in each field, shape (n, F).
        monitor
            Asked for cancellation.
        statistics
            Statistics of the fields over the whole slide; required for a tile.
        needed
            Which pairs of spots and fields the flow predicts, bool, shape (n, F); it gives the others its prior.
            Default: all.

        Returns
        -------
        inputs, log_experts
            Inputs of the flow, and log ratios of the experts in the order of :data:`EXPERT_NAMES`, shape (E, Q, F).
        """
        inputs = build_flow_inputs(
            self.layout, self.embedding, self.neighborhoods, self.interpolator, counts, statistics
        )
        flow = self.sampler.mean_log_ratios(self.network, inputs, monitor, needed)
        return inputs, _log_experts(flow, inputs, self.layout)


def log_experts_of(
    network: DiT, inputs: FlowInputs, layout: SpotPixelMap, monitor: RunMonitor = NO_MONITOR
) -> LogRatios:
    """Return the log ratios of the experts, given the flow's inputs, in the order of the pool, shape (E, Q, F)."""
    return _log_experts(FlowSampler().mean_log_ratios(network, inputs, monitor), inputs, layout)


def _log_experts(flow: np.ndarray, inputs: FlowInputs, layout: SpotPixelMap) -> LogRatios:
    """Return the log ratios of the experts, given those of the flow (Q, F), shape (E, Q, F)."""
    log_k = np.log(layout.n_pixels_per_spot[layout.parent])[:, None]
    interpolations = {name: inputs.expert_log_ratios[i].numpy() - log_k for i, name in enumerate(INTERPOLATION_EXPERTS)}
    return np.stack([flow if name == "pcfm" else interpolations[name] for name in EXPERT_NAMES]).astype(np.float64)
