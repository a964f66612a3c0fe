"""Slides that several tests of runs share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from napari_srast.core.slide import Slide


@pytest.fixture(scope="session")
def hex_slide(make_slide: Callable[..., Slide]) -> Slide:
    """Build a hexagonal slide of few counts: 144 spots and 6 genes."""
    return make_slide(12, 12, 6, lattice="hex", depth=6.0)
