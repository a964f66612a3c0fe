"""Import what a slide and a run need, before they need it.

An import holds Python's lock for up to half a second at a time. That is noticed least while the user looks for a slide,
so the modules are imported after the window was drawn; a slide that is opened sooner waits for them.
"""

from __future__ import annotations

import importlib

__all__ = ["import_run_modules"]

_MODULES = (
    "napari_srast.io.slide_reader",
    "spatialdata",
    "napari_srast.models.sasa.embedding",
    "napari_srast.checkpoints.storage",
    "napari_srast.inference.methods.srast",
)


def import_run_modules() -> None:
    """Import the modules that have not been imported; several threads may call this at the same time."""
    for name in _MODULES:
        importlib.import_module(name)
