"""Fit the isodepth model of GASTON (Chitra et al. 2025, doi:10.1038/s41592-024-02503-3), and evaluate it at pixels."""

from __future__ import annotations

import numpy as np

from napari_srast.core.slide import Slide
from napari_srast.geometry.raster import Raster

__all__ = ["fit"]

_N_COMPONENTS = 8
_HIDDEN = [20, 20]
_EPOCHS = 5000
_SEED = 0


def fit(slide: Slide, raster: Raster) -> np.ndarray:
    """Return expected counts at pixels, shape (Q, G).

    The network maps a position to one isodepth and from there to principal components of log counts, which are mapped
    back to genes.
    """
    import torch
    from gaston import neural_net
    from sklearn.decomposition import PCA

    logs = np.log1p(slide.counts.toarray().astype(np.float64))
    components = PCA(min(_N_COMPONENTS, *(n - 1 for n in logs.shape)), random_state=_SEED)
    scores = components.fit_transform(logs)
    places, features = neural_net.load_rescale_input_data(slide.centers, scores)
    random_state = np.random.get_state()  # noqa: NPY002 - the package seeds the global generator
    deterministic, benchmark = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        with torch.random.fork_rng(devices=[]):
            model, _ = neural_net.train(
                places,
                features,
                S_hidden_list=list(_HIDDEN),
                A_hidden_list=list(_HIDDEN),
                epochs=_EPOCHS,
                checkpoint=_EPOCHS,
                optim="adam",
                seed=_SEED,
                device="cpu",
            )
    finally:
        np.random.set_state(random_state)  # noqa: NPY002
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic, benchmark
    at_pixels = (raster.centers - slide.centers.mean(axis=0)) / slide.centers.std(axis=0)
    with torch.no_grad():
        predicted = model(torch.tensor(at_pixels, dtype=torch.float32)).numpy().astype(np.float64)
    predicted = predicted * scores.std(axis=0) + scores.mean(axis=0)
    return np.asarray(np.expm1(components.inverse_transform(predicted)))
