"""Stores that the readers of spatialdata-io write are read, and our import agrees with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from helpers.space_ranger import Capture, capture_area, write_visium, write_visium_hd

from napari_srast.core.slide import Slide
from napari_srast.errors import InputError
from napari_srast.io.convert.importer import import_slide
from napari_srast.io.slide_reader import read_slide
from napari_srast.io.store import write_store

spatialdata_io = pytest.importorskip("spatialdata_io")
pytestmark = pytest.mark.filterwarnings("ignore")  # of spatialdata-io


def through_disk(store: Any, path: Path, **choices: Any) -> Slide:
    write_store(store, path)
    return read_slide(path, **choices)


def assert_holds(slide: Slide, capture: Capture, um: float = 1.0) -> None:
    np.testing.assert_array_equal(slide.counts.toarray(), capture.expected)
    np.testing.assert_allclose(slide.centers * um, capture.centers_um, rtol=1e-6)


def test_visium_store_is_read_and_our_import_has_the_same_elements(tmp_path: Path) -> None:
    capture = capture_area()
    outs = write_visium(tmp_path / "mouse", capture)
    slide = through_disk(spatialdata_io.visium(outs, dataset_id="mouse"), tmp_path / "theirs.zarr")
    assert_holds(slide, capture, capture.um_per_px)
    assert slide.unit == "px"
    assert slide.image is not None
    ours = read_slide(import_slide(outs, tmp_path / "ours.zarr"))
    assert_holds(ours, capture)
    assert (ours.source.spots, ours.source.table) == (slide.source.spots, slide.source.table)
    assert ours.image is not None
    assert ours.image.name == slide.image.name
    assert set(slide.transforms) < set(ours.transforms)
    assert list(ours.genes) == list(slide.genes)
    assert list(ours.spot_ids) == list(slide.spot_ids)


def test_visium_hd_store_is_read_bin_size_by_bin_size(tmp_path: Path) -> None:
    captures = [capture_area(6, 7, bin_um=size, um_per_px=0.5) for size in (8, 16)]
    outs = write_visium_hd(tmp_path / "hd", captures, feature_slice="feature_slice.h5")
    store = spatialdata_io.visium_hd(outs, dataset_id="hd", load_segmentations_only=False)
    path = tmp_path / "theirs.zarr"
    with pytest.raises(InputError, match=r"--spots: hd_square_008um, hd_square_016um"):
        through_disk(store, path)
    for capture in captures:
        slide = read_slide(path, spots=f"hd_square_{capture.bin_um:03d}um")
        assert_holds(slide, capture, 0.5)
        assert slide.spot_shape == "square"
        ours = read_slide(import_slide(outs, tmp_path / f"{capture.bin_um}.zarr", bin_size=capture.bin_um))
        assert (ours.source.spots, ours.source.table) == (slide.source.spots, slide.source.table)


def test_legacy_anndata_store_is_read(tmp_path: Path) -> None:
    from spatialdata_io.experimental import from_legacy_anndata

    capture = capture_area()
    pixels = capture.centers_um / capture.um_per_px
    table = anndata.AnnData(
        capture.expected.astype(np.float32),
        obs=pd.DataFrame(index=capture.barcodes[capture.tissue]),
        obsm={"spatial": pixels},
        uns={
            "spatial": {
                "lib": {
                    "images": {
                        "hires": np.full((180, 200, 3), 200, dtype=np.uint8),
                        "lowres": np.full((36, 40, 3), 200, dtype=np.uint8),
                    },
                    "scalefactors": {
                        "tissue_hires_scalef": 0.5,
                        "tissue_lowres_scalef": 0.1,
                        "spot_diameter_fullres": 26.0,
                    },
                }
            }
        },
    )
    slide = through_disk(from_legacy_anndata(table), tmp_path / "legacy.zarr")
    assert_holds(slide, capture, capture.um_per_px)
    assert slide.spot_diameter == pytest.approx(26)
    assert slide.image is not None
    corners = np.abs(slide.image.to_intrinsic[0])
    np.testing.assert_allclose(corners, np.diag([2.0, 2, 1]))


def test_stereo_seq_store_is_read_by_cells_and_by_bins(tmp_path: Path) -> None:
    """Cells are circles; bins are points, one table for each bin size."""
    import spatialdata
    from spatialdata.models import PointsModel, ShapesModel, TableModel

    rng = np.random.default_rng(0)
    cells = rng.uniform(0, 100, (30, 2))
    row, col = (a.ravel() for a in np.mgrid[:6, :6])
    tables, points = {}, {}

    def table(n: int, region: str, ids: Any) -> Any:
        obs = pd.DataFrame(
            {"region": pd.Categorical([region] * n), "instance_id": ids}, index=[f"c{i}" for i in range(n)]
        )
        counts = anndata.AnnData(rng.poisson(3, (n, 4)).astype(np.float32) + 1, obs=obs)
        return TableModel.parse(counts, region=region, region_key="region", instance_key="instance_id")

    tables["cells_table"] = table(30, "cells_circles", [f"c{i}" for i in range(30)])
    for size in (20, 50):
        places = pd.DataFrame({"x": col * size, "y": row * size})
        points[f"bin{size}_genes"] = PointsModel.parse(places, coordinates={"x": "x", "y": "y"})
        tables[f"bin{size}_table"] = table(36, f"bin{size}_genes", np.arange(36))
    circles = ShapesModel.parse(
        cells, geometry=0, radius=np.full(30, 4.0), index=pd.Index([f"c{i}" for i in range(30)])
    )
    store = spatialdata.SpatialData(shapes={"cells_circles": circles}, points=points, tables=tables)
    path = tmp_path / "stereo.zarr"
    with pytest.raises(InputError, match=r"--spots: .*bin20_genes"):
        through_disk(store, path)
    assert read_slide(path, spots="cells_circles").n_spots == 30
    slide = read_slide(path, spots="bin50_genes")
    np.testing.assert_array_equal(slide.centers, np.column_stack([col, row]) * 50)
    np.testing.assert_array_equal(slide.counts.toarray(), tables["bin50_table"].X)
    assert slide.spot_shape == "square"
    assert slide.spot_diameter == pytest.approx(50)
