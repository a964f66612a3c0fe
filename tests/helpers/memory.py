"""Memory that a block of a test allocates."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["PeakMemory", "traced_peak"]


class PeakMemory:
    """Largest number of bytes that were allocated at once; 0 until the block has ended."""

    n_bytes = 0


@contextmanager
def traced_peak() -> Iterator[PeakMemory]:
    """Measure what Python and NumPy allocate inside the block."""
    peak = PeakMemory()
    tracemalloc.start()
    try:
        yield peak
        peak.n_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
