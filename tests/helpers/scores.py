"""Scores of predicted ratios."""

from __future__ import annotations

import numpy as np

from napari_srast.geometry.spot_pixel_map import SpotPixelMap


def gain_per_gene(log_ratio: np.ndarray, truth: np.ndarray, layout: SpotPixelMap) -> np.ndarray:
    """Return nats per count over the uniform split of each field, sum y log(K r) / sum y, (F,); NaN without counts."""
    log_k = np.log(layout.n_pixels_per_spot[layout.parent])[:, None]
    total = truth.sum(axis=0)
    gain = (truth * (log_ratio + log_k)).sum(axis=0)
    return np.where(total > 0, gain / np.where(total > 0, total, 1), np.nan)
