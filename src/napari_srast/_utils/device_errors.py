"""Translation of PyTorch's device failures to errors for users."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from napari_srast.errors import DeviceError, is_memory_error, out_of_memory_message

__all__ = ["is_device_memory_error", "release_cached_memory", "translate_device_errors"]

# PyTorch reports device failures as RuntimeErrors that contain the name of the library that failed.
_DEVICE_LIBRARIES = re.compile(r"\b(CUDA|cuDNN|CUDNN|CUBLAS|CUSOLVER|CUSPARSE|NVIDIA|NVML|HIP|MPS)")
# Apple's devices, the driver, and libraries that bypass PyTorch's allocator have no exception class for full memory.
_DEVICE_MEMORY_TEXTS = re.compile(
    r"MPS backend out of memory|CUDA error: out of memory|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED"
)


def is_device_memory_error(error: Exception) -> bool:
    """Return whether an error means that the memory of a GPU is full."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    return isinstance(error, torch.cuda.OutOfMemoryError) or _DEVICE_MEMORY_TEXTS.search(str(error)) is not None


def release_cached_memory() -> None:
    """Return the device memory that PyTorch caches to the device."""
    torch = sys.modules["torch"]
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


@contextmanager
def translate_device_errors(device: str) -> Iterator[None]:
    """Convert exceptions of a failed device, or of full memory, to one :class:`~napari_srast.errors.DeviceError`.

    Parameters
    ----------
    device
        The device as the user requested it: "auto", "cpu", "cuda" or "mps".

    Raises
    ------
    DeviceError
        The device failed or disappeared, or the memory of the device or of this computer is full.
    """
    name = "The device" if device == "auto" else f"The device '{device}'"
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = " ".join(str(error).partition("\n")[0].split())[:160]
        if is_device_memory_error(error):
            advice = "choose device 'cpu', a smaller region or a lower factor"
            raise DeviceError(out_of_memory_message(advice=advice, what=name)) from error
        if is_memory_error(error):
            advice = "choose fewer genes, a smaller region or a lower factor"
            raise DeviceError(out_of_memory_message("during the run", advice)) from error
        if _DEVICE_LIBRARIES.search(text):
            raise DeviceError(
                f"{name} failed during the run ({text}); choose device 'cpu', or start again and check the driver."
            ) from error
        raise
