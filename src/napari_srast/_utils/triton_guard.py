"""Workaround for the crash when Triton and Mesa's OpenGL drivers are loaded in one process."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["block_triton_import"]

_MAPS = Path("/proc/self/maps")  # Triton exists on Linux only
_DRIVERS = ("libLLVM", "libgallium")


def block_triton_import() -> bool:
    """Make Triton count as not installed in a process that has loaded Mesa's OpenGL drivers.

    Triton and Mesa each bring an LLVM with clashing symbols: importing Triton 3.9.0 after Mesa's drivers had loaded
    LLVM 15 ended napari with a segmentation fault. PyTorch Geometric makes PyTorch import Triton; this package does not
    use it, and PyTorch works without it. With other drivers, or if Triton was loaded first, nothing changes.

    Returns
    -------
    bool
        Whether this call blocked the import.
    """
    if "triton" in sys.modules:
        return False
    try:
        maps = _MAPS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    if not any(driver in maps for driver in _DRIVERS):
        return False
    sys.modules["triton"] = None  # type: ignore[assignment]  # documented by Python: importing it now fails
    return True
