"""The processes beside the window, one set for all windows of a program."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_srast.models.elsewhere import Elsewhere

__all__ = ["processes"]


@functools.cache
def processes() -> Elsewhere:
    """Return what fits SASA beside the window; importing it loads torch."""
    from napari_srast.models.elsewhere import Elsewhere

    return Elsewhere()
