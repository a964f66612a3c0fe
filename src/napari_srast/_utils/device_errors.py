"""What happens when a device, or its memory, gives out during a run."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from napari_srast.errors import DeviceError, is_memory_error

__all__ = ["free_device", "out_of_memory", "translate_device_errors"]

# torch tells the faults of its devices as RuntimeErrors: by the name of the layer below that failed.
_LAYERS_BELOW = re.compile(r"\b(CUDA|cuDNN|CUDNN|CUBLAS|CUSOLVER|CUSPARSE|NVIDIA|NVML|HIP|MPS)")
# What says so without a class of its own: Apple's devices, the driver, and the libraries that ask it past torch.
_FULL = re.compile(r"MPS backend out of memory|CUDA error: out of memory|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED")


def out_of_memory(error: Exception) -> bool:
    """Tell whether an error says that a device's own memory is full."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    return isinstance(error, torch.cuda.OutOfMemoryError) or _FULL.search(str(error)) is not None


def free_device() -> None:
    """Give back what torch keeps of a device's memory for later."""
    torch = sys.modules["torch"]
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


@contextmanager
def translate_device_errors(device: str) -> Iterator[None]:
    """Turn what is raised where a device or its memory gives out into one sentence for the user.

    Parameters
    ----------
    device
        The device as it was asked for.

    Raises
    ------
    DeviceError
        The device failed, vanished, or ran out of memory, or this computer did.
    """
    name = "The device" if device == "auto" else f"The device '{device}'"
    try:
        yield
    except MemoryError as error:
        raise _no_memory() from error
    except RuntimeError as error:
        text = " ".join(str(error).partition("\n")[0].split())[:160]
        if out_of_memory(error):
            raise DeviceError(
                f"{name} ran out of memory; choose device 'cpu', a smaller region or a lower factor."
            ) from error
        if is_memory_error(error):
            raise _no_memory() from error
        if _LAYERS_BELOW.search(text):
            raise DeviceError(
                f"{name} failed during the run ({text}); choose device 'cpu', or start again and check the driver."
            ) from error
        raise


def _no_memory() -> DeviceError:
    return DeviceError(
        "This computer ran out of memory during the run; choose fewer genes, a smaller region or a lower factor."
    )
