"""Which device to compute on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from napari_srast.errors import SettingsError

__all__ = ["available_devices", "choose_device", "one_thread"]


def available_devices() -> tuple[str, ...]:
    """Return the devices of this machine, the fastest first."""
    devices = []
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return (*devices, "cpu")


def choose_device(name: str) -> str:
    """Resolve "auto", and check that a device is there.

    Raises
    ------
    SettingsError
        The device is not present.
    """
    present = available_devices()
    if name == "auto":
        return present[0]
    if name not in present:
        raise SettingsError(
            f"device '{name}' is not present on this machine; choose auto or one of: {', '.join(present)}."
        )
    return name


@contextmanager
def one_thread(use: bool = True) -> Iterator[None]:
    """Compute on one thread of the CPU.

    Many small operations gain nothing from more, and beside a busy window (or any other work) their threads wait for
    each other: fitting SASA to 184 spots then took 70 s instead of 2 s on two cores.
    """
    before = torch.get_num_threads()
    if use:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
