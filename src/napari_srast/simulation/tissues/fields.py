"""Sample smooth random fields, and their gradients, at arbitrary positions.

Shape legend: n positions, F fields, W waves.
"""

from __future__ import annotations

import numpy as np

__all__ = ["SmoothFields", "log_uniform"]

_WAVES = 40


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform between those of ``low`` and ``high``."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


class SmoothFields:
    """Independent random fields, approximately Gaussian processes with a squared-exponential covariance.

    The fields are sums of random waves: Rahimi and Recht, *Random features for large-scale kernel machines* (2007).
    They need no grid, so they can be evaluated at any position and resolution.

    Parameters
    ----------
    rng
        Random generator.
    lengths_um
        Length scale of each field in micrometers, shape (F,).
    stretch
        Ratio of the length scales along and across ``angle``.
    angle
        Direction of the longer scale in radians.
    """

    def __init__(self, rng: np.random.Generator, lengths_um: np.ndarray, *, stretch: float = 1.0, angle: float = 0.0):
        lengths = np.asarray(lengths_um, dtype=float)
        waves = rng.standard_normal((len(lengths), _WAVES, 2)) / lengths[:, None, None]
        along = np.array([np.cos(angle), np.sin(angle)])
        waves -= (1 - 1 / stretch) * (waves @ along)[..., None] * along
        self._waves = waves.astype(np.float32)
        self._phases = rng.uniform(0, 2 * np.pi, (len(lengths), _WAVES)).astype(np.float32)

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Return the fields at positions (n, 2): float32 (n, F), with mean 0 and variance 1 over random draws."""
        return np.sqrt(2 / _WAVES) * np.stack([np.cos(a).sum(axis=1) for a in self._angles(positions)], axis=1)

    def gradient(self, positions: np.ndarray) -> np.ndarray:
        """Return the gradients at positions (n, 2): shape (n, F, 2), per micrometer."""
        slopes = [-np.sin(a) @ wave for a, wave in zip(self._angles(positions), self._waves, strict=True)]
        return np.sqrt(2 / _WAVES) * np.stack(slopes, axis=1)

    def _angles(self, positions: np.ndarray) -> list[np.ndarray]:
        """Return the phases (n, W) of the waves of each field."""
        xy = positions.astype(np.float32)
        return [xy @ wave.T + phase for wave, phase in zip(self._waves, self._phases, strict=True)]
