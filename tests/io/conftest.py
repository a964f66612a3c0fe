"""Fixtures for reading and writing: results, a slide on disk, and difficult coordinate systems."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.results import make_result, with_random_shares

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide, SlideSource


@pytest.fixture(scope="session")
def awkward_transforms() -> dict[str, np.ndarray]:
    """Return transformations under which a swapped axis, a lost sign or half a pixel shows."""
    angle = np.deg2rad(33)
    turned = np.array([[np.cos(angle), -np.sin(angle), 120.0], [np.sin(angle), np.cos(angle), -45.0], [0, 0, 1]])
    mirrored = np.array([[-0.37, 0.0, 900.0], [0.0, 0.52, 7.0], [0, 0, 1]])
    sheared = np.array([[1.3, 0.4, -3.0], [0.1, 0.8, 55.5], [0, 0, 1]])
    return {"global": np.eye(3), "turned": turned, "mirrored": mirrored, "sheared": sheared}


@pytest.fixture(name="make_result", scope="session")
def _make_result() -> Callable[..., UpsampleResult]:
    """Split every spot of a slide in random proportions."""

    def make(slide: Slide | None = None, *, run: str = "20260101_000000_abcd", **options: Any) -> UpsampleResult:
        return with_random_shares(make_result(slide, factor=3, seed=7, **options), run)

    return make


@pytest.fixture
def written_slide(make_slide: Callable[..., Slide], make_store: Callable[..., Any], tmp_path: Any) -> Slide:
    """Write a slide to ``slide.zarr`` and read it."""
    from napari_srast.io.slide_reader import read_slide
    from napari_srast.io.store import write_store

    write_store(make_store(make_slide(5, 6, n_genes=4)), tmp_path / "slide.zarr")
    slide = read_slide(tmp_path / "slide.zarr")
    assert isinstance(slide.source, SlideSource)
    return slide
