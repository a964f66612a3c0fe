"""Look for a GPU without importing PyTorch, which takes seconds."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["may_have_gpu"]

# Device files of NVIDIA's driver, of its embedded boards, of AMD's driver, and of Windows' subsystem for Linux
_DEVICE_FILES = (
    "/dev/nvidiactl",
    "/dev/nvidia0",
    "/dev/nvgpu",
    "/dev/nvhost-gpu",
    "/dev/nvmap",
    "/dev/kfd",
    "/dev/dxg",
)


def may_have_gpu() -> bool:
    """Return whether PyTorch may find a GPU on this computer; False if the driver of every kind of GPU is missing."""
    system: str = sys.platform  # compared with a constant, mypy would drop the other systems
    if system == "linux":
        return any(Path(file).exists() for file in _DEVICE_FILES)
    if system == "win32":
        return (Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll").exists()
    return True
