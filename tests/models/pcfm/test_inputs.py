"""The inputs of the flow: what they do not depend on."""

from __future__ import annotations

import numpy as np
from helpers.flow import random_network
from scipy import sparse

from napari_srast.geometry.lattice import detect_lattice
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation import Interpolator
from napari_srast.models.pcfm.inputs import (
    FlowInputs,
    SpotNeighborhoods,
    build_flow_inputs,
)
from napari_srast.models.pcfm.sampler import FlowSampler
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.fitting import fit_sasa


def test_inputs_are_invariant_to_rotation_and_unit(small: tuple[SpotPixelMap, sparse.csr_matrix, FlowInputs]) -> None:
    layout, counts, inputs = small
    transform = 3.7 * np.array([[0.0, -1.0], [-1.0, 0.0]])
    embedding = fit_sasa(counts, layout.spots, detect_lattice(layout.spots), config=SasaConfig(epochs=5))
    transformed = SpotPixelMap(
        spots=layout.spots @ transform.T,
        pixels=layout.pixels @ transform.T,
        parent=layout.parent,
        pitch=layout.pitch * 3.7,
    )
    other = build_flow_inputs(
        transformed, embedding, SpotNeighborhoods.from_layout(transformed, embedding), Interpolator(transformed), counts
    )
    a, b = (np.exp(FlowSampler().mean_log_ratios(random_network(), c)) for c in (inputs, other))
    # Not exact: rounding decides which of equally distant spots the local kriging uses.
    np.testing.assert_allclose(a, b, atol=0.01)
