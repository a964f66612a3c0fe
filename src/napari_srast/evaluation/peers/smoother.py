"""Impute pixels by Smoother (Su et al. 2023, doi:10.1186/s13059-023-03138-x), with an intrinsic autoregressive loss."""

from __future__ import annotations

import numpy as np

from napari_srast.core.slide import Slide
from napari_srast.geometry.raster import Raster

__all__ = ["impute"]

_N_NEIGHBORS = 6
_LEARNING_RATE = 0.01
_EPOCHS = 2000


def impute(slide: Slide, raster: Raster) -> np.ndarray:
    """Return imputed counts of pixels, shape (Q, G): log counts of spots are fixed, those of pixels are smooth.

    Pixels are nodes of the neighbor graph next to the spots, in units of the pitch.
    """
    import torch
    from smoother import SpatialLoss, SpatialWeightMatrix
    from smoother.models.impute import ImputeTorch

    origin = slide.centers.min(axis=0)
    places = (np.concatenate([slide.centers, raster.centers]) - origin) / raster.lattice.pitch
    weights = SpatialWeightMatrix()
    weights.calc_weights_knn(places, k=_N_NEIGHBORS, verbose=False)
    loss = SpatialLoss("icar", spatial_weights=[weights], rho=0.99, use_sparse=True)
    logs = torch.tensor(np.log1p(slide.counts.toarray()), dtype=torch.float32)
    model = ImputeTorch(logs, loss, nonneg=True, lr=_LEARNING_RATE, max_epochs=_EPOCHS, verbose=False, quiet=True)
    return np.asarray(np.expm1(model.get_results().numpy()[slide.n_spots :]))
