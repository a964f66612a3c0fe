"""Libraries that a graphics driver cannot bear beside it."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["block_triton_import"]

_MAPS = Path("/proc/self/maps")  # Linux alone has Triton
_DRIVERS = ("libLLVM", "libgallium")


def block_triton_import() -> bool:
    """Let Triton count as not installed in a process that has drawn with Mesa's OpenGL.

    Triton and Mesa each bring an LLVM whose names clash: importing Triton 3.9.0 after Mesa's drivers had loaded LLVM 15
    ended napari with a segmentation fault. PyTorch Geometric has torch import it; nothing here uses it, and torch does
    without. On other drivers, or where Triton was there first, nothing is changed.

    Returns
    -------
    bool
        Whether it was kept out by this call.
    """
    if "triton" in sys.modules:
        return False
    try:
        maps = _MAPS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    if not any(driver in maps for driver in _DRIVERS):
        return False
    sys.modules["triton"] = None  # type: ignore[assignment]  # as Python's documentation says: its import now fails
    return True
