"""Results made without a model, and stores with spots of every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide, SlideSource
from napari_srast.geometry.raster import make_raster


@pytest.fixture(scope="session")
def awkward_transforms() -> dict[str, np.ndarray]:
    """Coordinate systems that a swapped axis, a lost sign or half a pixel cannot survive."""
    angle = np.deg2rad(33)
    turned = np.array([[np.cos(angle), -np.sin(angle), 120.0], [np.sin(angle), np.cos(angle), -45.0], [0, 0, 1]])
    mirrored = np.array([[-0.37, 0.0, 900.0], [0.0, 0.52, 7.0], [0, 0, 1]])
    sheared = np.array([[1.3, 0.4, -3.0], [0.1, 0.8, 55.5], [0, 0, 1]])
    return {"global": np.eye(3), "turned": turned, "mirrored": mirrored, "sheared": sheared}


@pytest.fixture
def make_result(make_slide: Callable[..., Slide]) -> Callable[..., UpsampleResult]:
    """Split every spot of a slide in random proportions, as a stand-in for a run of the pipeline."""

    def make(slide: Slide | None = None, *, run: str = "20260101_000000_abcd", **fields: Any) -> UpsampleResult:
        slide = slide or make_slide(5, 6, n_genes=4)
        settings = fields.pop("settings", UpsampleSettings(factor=3, method="uniform", seed=7))
        region = fields.pop("region", None)
        raster = make_raster(
            slide.centers,
            factor=settings.factor,
            selected=None if region is None else region.spots(slide),
            spot_diameter=slide.spot_diameter,
            spot_shape=slide.spot_shape,
        )
        share = np.random.default_rng(3).random(raster.n_pixels)
        share /= raster.sum_to_spots(share)[raster.parent]
        split = sparse.csr_matrix(
            (share, (np.arange(raster.n_pixels), raster.parent)), shape=(raster.n_pixels, slide.n_spots)
        )
        counts = sparse.csr_matrix(split @ slide.counts, dtype=np.float32)
        values: dict[str, Any] = {
            "counts": counts,
            "std": None,
            "genes": slide.genes,
            "skill": np.linspace(-0.1, 0.4, slide.n_genes),
            "method": np.array(["uniform"] * slide.n_genes, dtype=object),
            "provenance": {
                "model": {"name": "none", "sha256": "0" * 64},
                "seconds": {"total": 1.5},
                "weights": [0.5, 1],
            },
        }
        return UpsampleResult(
            **(values | fields), raster=raster, slide=slide, region=region, settings=settings, run=run
        )

    return make


@pytest.fixture
def written_slide(make_slide: Callable[..., Slide], make_store: Callable[..., Any], tmp_path: Any) -> Slide:
    """A slide that was read from a store on disk."""
    from napari_srast.io.slide_reader import read_slide
    from napari_srast.io.store import write_store

    write_store(make_store(make_slide(5, 6, n_genes=4)), tmp_path / "slide.zarr")
    slide = read_slide(tmp_path / "slide.zarr")
    assert isinstance(slide.source, SlideSource)
    return slide
