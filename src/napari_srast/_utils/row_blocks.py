"""Divide the rows of a matrix into blocks, so that the memory of a step does not grow with the slide.

Slides of up to 20,000 spots are one block: sums over several blocks are rounded differently, so that the results of
these slides would not keep their bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any

import numpy as np

__all__ = ["MAX_WHOLE_ROWS", "add_up", "row_blocks", "spread_sample"]

MAX_WHOLE_ROWS = 20_000
"""Rows up to which a matrix is processed as a whole."""
_VALUES_PER_BLOCK = 4_000_000


def row_blocks(n_rows: int, n_values: float) -> list[slice]:
    """Divide rows into blocks that bound the number of values in memory.

    Parameters
    ----------
    n_rows
        Number of rows. Up to :data:`MAX_WHOLE_ROWS` they are one block.
    n_values
        Number of values of the whole matrix, such as its nonzero entries.
    """
    step = n_rows
    if n_rows > MAX_WHOLE_ROWS:
        step = int(np.clip(n_rows * _VALUES_PER_BLOCK / max(n_values, 1), 1, MAX_WHOLE_ROWS))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, max(step, 1))] or [slice(0, 0)]


def add_up(parts: Iterable[Any]) -> Any:
    """Add arrays, of which there is at least one; a single one is returned as it is."""
    return reduce(np.add, parts)


def spread_sample(n_rows: int, max_rows: int = MAX_WHOLE_ROWS) -> np.ndarray:
    """Return the indices of at most ``max_rows`` rows, spread evenly over all of them."""
    return np.linspace(0, n_rows - 1, min(n_rows, max_rows)).astype(int)
