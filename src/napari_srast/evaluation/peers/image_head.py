"""Predict genes from image features by a network that fits the means of discs, as iStar does with its features.

iStar (Zhang et al. 2024, doi:10.1038/s41587-023-02019-9) trains a network from features of superpixels to expression so
that the mean over a spot's superpixels has the smallest squared error to the spot's counts. Here the same loss is used
with the image features of this package, so that a comparison is about the model, not about the features. Discs that are
left out of the fit decide when it stops. Shape legend: N spots, Q pixels, G genes, D features, P points in a disc.
"""

from __future__ import annotations

import numpy as np
import torch

from napari_srast.core.slide import Slide
from napari_srast.geometry.raster import Raster
from napari_srast.histology.features import disk_offsets, extract_features

__all__ = ["fit_head", "predict"]

_N_POINTS = 12  # in a disc
_N_STATES = 4  # networks with different starts, whose predictions are averaged
_HIDDEN = 64
_EPOCHS = 1000
_LEFT_OUT = 0.2  # of the discs, whose error decides when to stop
_CHECK_EVERY = 5
_PATIENCE = 100  # epochs without a smaller error
_LEARNING_RATE = 2e-3
_START = 0.1  # scale of the last layer's random weights
_WEIGHT_DECAY = 1e-3
_SEED = 0
_DEFAULT_AREA = 0.25  # of the squared pitch, for spots of unknown size


def predict(slide: Slide, raster: Raster) -> np.ndarray:
    """Return expected counts at pixels, shape (Q, G); the slide must have an image."""
    assert slide.image is not None
    pitch = raster.lattice.pitch
    area = slide.spot_area or _DEFAULT_AREA * pitch**2
    features = extract_features(slide.image, slide.centers, pitch)
    points = np.stack([features.sample(slide.centers + offset) for offset in disk_offsets(area, _N_POINTS)], axis=1)
    return fit_head(points, slide.counts.toarray().astype(np.float64), features.sample(raster.centers))


def fit_head(points: np.ndarray, counts: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Fit a network by squared error on disc means, and predict pixels.

    Parameters
    ----------
    points
        Features of points in each disc, shape (N, P, D).
    counts
        Counts of the discs, shape (N, G). Each gene is scaled to a largest value of 1, as iStar does.
    pixels
        Features of the pixels, shape (Q, D).

    Returns
    -------
    np.ndarray
        Non-negative predicted counts, shape (Q, G).
    """
    mean, spread = points.mean(axis=(0, 1)), points.std(axis=(0, 1))
    spread = np.where(spread > 1e-8, spread, 1.0)
    x = torch.tensor((points - mean) / spread, dtype=torch.float32)
    at = torch.tensor((pixels - mean) / spread, dtype=torch.float32)
    largest = np.maximum(counts.max(axis=0), 1.0)
    y = torch.tensor(counts / largest, dtype=torch.float32)
    total = torch.zeros(len(at), y.shape[1])
    for state in range(_N_STATES):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED + state)
            last = torch.nn.Linear(_HIDDEN, y.shape[1])
            network = torch.nn.Sequential(
                torch.nn.Linear(x.shape[2], _HIDDEN),
                torch.nn.LeakyReLU(0.1),
                torch.nn.Linear(_HIDDEN, _HIDDEN),
                torch.nn.LeakyReLU(0.1),
                last,
                torch.nn.Softplus(),
            )
        with torch.no_grad():  # start from the mean of each gene; without it the fit spends its steps on finding it
            last.weight.mul_(_START)
            last.bias.copy_(torch.log(torch.expm1(y.mean(dim=0).clamp(min=1e-4))))
        optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        left_out = np.random.default_rng(_SEED + state).random(len(y)) < _LEFT_OUT
        left_out[0] = False  # at least one disc is fitted
        x_fit, y_fit = x[~left_out], y[~left_out]
        x_check, y_check = (x[left_out], y[left_out]) if left_out.any() else (x_fit, y_fit)
        best, best_epoch, predicted = np.inf, 0, torch.zeros_like(total)
        for epoch in range(_EPOCHS):
            optimizer.zero_grad()
            loss = ((network(x_fit).mean(dim=1) - y_fit) ** 2).mean()
            loss.backward()
            optimizer.step()
            if epoch % _CHECK_EVERY == 0:
                with torch.no_grad():
                    error = float(((network(x_check).mean(dim=1) - y_check) ** 2).mean())
                    if error < best:
                        best, best_epoch, predicted = error, epoch, network(at)
                if epoch - best_epoch >= _PATIENCE:
                    break
        total += predicted
    return np.asarray((total / _N_STATES).numpy() * largest, dtype=np.float64)
