"""Check seeds, and resample square blocks of spots for intervals that allow for the likeness of neighboring spots.

Shape legend: N spots, B blocks.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student

from napari_srast.core.slide import Slide
from napari_srast.errors import value_out_of_range
from napari_srast.geometry.blocks import square_blocks
from napari_srast.geometry.lattice import detect_lattice

__all__ = ["MIN_BLOCKS", "block_of_spots", "check_bootstrap", "check_seed", "interval_factor", "resample_blocks"]

MIN_BLOCKS = 5
"""Number of blocks that an interval needs."""
_MAX_SEED = 2**32 - 1


def check_seed(seed: int) -> None:
    """Refuse a seed that random number generators do not accept.

    Parameters
    ----------
    seed
        Random seed.

    Raises
    ------
    SettingsError
        The seed is negative or too large.
    """
    if not 0 <= seed <= _MAX_SEED:
        raise value_out_of_range("seed", seed, f"between 0 and {_MAX_SEED}")


def check_bootstrap(block: float, draws: int, level: float, seed: int) -> None:
    """Refuse options of a bootstrap that are out of their range.

    Parameters
    ----------
    block
        Side of the blocks in pitches.
    draws
        Number of bootstrap draws.
    level
        Level of the intervals.
    seed
        Random seed.

    Raises
    ------
    SettingsError
        A number is out of its range.
    """
    for name, value, limits, valid in (
        ("block", block, "at least 1 pitch", np.isfinite(block) and block >= 1),
        ("number of draws", draws, "at least 100", draws >= 100),
        ("level", level, "between 0 and 1", 0 < level < 1),
    ):
        if not valid:
            raise value_out_of_range(name, value, limits)
    check_seed(seed)


def block_of_spots(slide: Slide, block: float) -> np.ndarray:
    """Return the index of the square block of each spot, shape (N,).

    Parameters
    ----------
    slide
        The slide.
    block
        Side of the blocks in pitches.
    """
    return square_blocks(slide.centers, block * detect_lattice(slide.centers, slide.spot_diameter).pitch)


def resample_blocks(n_blocks: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each block is drawn, with replacement, shape (draws, B).

    Parameters
    ----------
    n_blocks
        Number of blocks.
    draws
        Number of bootstrap draws.
    rng
        Random number generator.
    """
    return rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=draws)


def interval_factor(level: float, n_blocks: int) -> float:
    """Return half the width of an interval in standard errors: a quantile of the t distribution.

    Parameters
    ----------
    level
        Level of the interval.
    n_blocks
        Number of blocks.
    """
    return float(student.ppf((1 + level) / 2, n_blocks - 1))
