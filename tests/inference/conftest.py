"""Slides that several tests of runs share, and short fits for tests that do not depend on the fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest

from napari_srast.core.slide import Slide


@pytest.fixture(scope="session")
def hex_slide(make_slide: Callable[..., Slide]) -> Slide:
    """Build a hexagonal slide of few counts: 144 spots and 6 genes."""
    return make_slide(12, 12, 6, lattice="hex", depth=6.0)


@pytest.fixture(scope="module")
def short_fits() -> Iterator[None]:
    """Fit SASA in a few epochs, which takes a tenth of the time."""
    from napari_srast.checkpoints.storage import load_checkpoint
    from napari_srast.inference import fitted_slide

    full = load_checkpoint("default")
    short = dataclasses.replace(full, sasa=dataclasses.replace(full.sasa, epochs=8), sha256="0" * 64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitted_slide, "load_checkpoint", lambda _: short)
        yield
