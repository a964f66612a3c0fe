"""Smooth random fields that can be asked at any place, with their gradient.

Shape legend: n places, F fields, W waves.
"""

from __future__ import annotations

import numpy as np

__all__ = ["SmoothFields", "log_uniform"]

_WAVES = 40


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw one number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


class SmoothFields:
    """Independent Gaussian fields with a squared-exponential covariance, approximately.

    Sums of random waves: Rahimi and Recht, *Random features for large-scale kernel machines* (2007). No grid is needed,
    so that one field serves any place at any resolution.

    Parameters
    ----------
    lengths_um
        Length scale of each field, (F,).
    stretch
        How many times longer the fields are along ``angle`` than across it.
    angle
        Direction of the stretch, radians.
    """

    def __init__(self, rng: np.random.Generator, lengths_um: np.ndarray, *, stretch: float = 1.0, angle: float = 0.0):
        lengths = np.asarray(lengths_um, dtype=float)
        waves = rng.standard_normal((len(lengths), _WAVES, 2)) / lengths[:, None, None]
        along = np.array([np.cos(angle), np.sin(angle)])
        waves -= (1 - 1 / stretch) * (waves @ along)[..., None] * along
        self._waves = waves.astype(np.float32)
        self._phases = rng.uniform(0, 2 * np.pi, (len(lengths), _WAVES)).astype(np.float32)

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Return the fields at places (n, 2): float32 (n, F), mean 0 and variance 1 over realisations."""
        return np.sqrt(2 / _WAVES) * np.stack([np.cos(a).sum(axis=1) for a in self._angles(places)], axis=1)

    def gradient(self, places: np.ndarray) -> np.ndarray:
        """Return the gradients at places (n, 2): (n, F, 2), per micrometer."""
        slopes = [-np.sin(a) @ wave for a, wave in zip(self._angles(places), self._waves, strict=True)]
        return np.sqrt(2 / _WAVES) * np.stack(slopes, axis=1)

    def _angles(self, places: np.ndarray) -> list[np.ndarray]:
        at = places.astype(np.float32)
        return [at @ wave.T + phase for wave, phase in zip(self._waves, self._phases, strict=True)]
