"""Keeps Python's collections of garbage short in the window.

A full collection looks through all that lives: with torch, napari and SpatialData loaded that takes a third of a
second, now and then in the middle of a run, and napari asks for one whenever its scene changes. Nearly all of that is
loaded once and stays. It is set aside, so that a collection looks through what came later; where layers go, it looks
through everything, for what goes with them may be old.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["looking_through_all", "set_aside", "take_back"]

_aside: list[bool] = []  # holds something while anything is set aside


def set_aside() -> None:
    """Leave all that lives now out of collections; what was set aside before stays so."""
    if not _aside:
        gc.freeze()
        _aside.append(True)


def take_back() -> bool:
    """Let collections look through everything again; returns whether anything was set aside."""
    if not _aside:
        return False
    gc.unfreeze()
    _aside.clear()
    return True


@contextlib.contextmanager
def looking_through_all() -> Iterator[None]:
    """Let collections look through everything meanwhile; what is left is set aside again, if anything was before."""
    was_aside = take_back()
    try:
        yield
    finally:
        if was_aside:
            set_aside()
