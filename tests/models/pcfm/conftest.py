"""A small slide with the inputs of the flow."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from napari_srast.geometry.lattice import detect_lattice
from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation import Interpolator
from napari_srast.models.pcfm.inputs import FlowInputs, SpotNeighborhoods, build_flow_inputs
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.fitting import fit_sasa


@pytest.fixture(scope="session")
def small() -> tuple[SpotPixelMap, sparse.csr_matrix, FlowInputs]:
    """Return a hexagonal slide of 36 spots, the counts of three genes, and the flow's inputs."""
    rng = np.random.default_rng(0)
    row, col = (a.ravel() for a in np.mgrid[:6, :6])
    centers = np.column_stack([col + 0.5 * (row % 2), row * np.sqrt(3) / 2]) * 100.0
    counts = sparse.csr_matrix(
        rng.poisson(5.0 * np.exp(-0.5 * np.abs(col - 2))[:, None] * [1, 2, 0.1]), dtype=np.float32
    )
    raster = make_raster(centers, factor=2)
    layout = SpotPixelMap.of_raster(centers, raster)
    embedding = fit_sasa(counts, centers, detect_lattice(centers), config=SasaConfig(epochs=5))
    inputs = build_flow_inputs(
        layout, embedding, SpotNeighborhoods.from_layout(layout, embedding), Interpolator(layout), counts
    )
    return layout, counts, inputs
