"""Stores that the readers of spatialdata-io write are read, and our import agrees with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from helpers.space_ranger import Capture, capture_area, write_visium, write_visium_hd
from helpers.stereo_seq import write_stereo_seq

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


@pytest.mark.contract(
    section="Other programs",
    case="stores of `spatialdata_io.visium`, `visium_hd`, `stereoseq` and `from_legacy_anndata`",
    response="read",
)
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


@pytest.mark.contract(
    section="Other programs",
    case="stores of `spatialdata_io.visium`, `visium_hd`, `stereoseq` and `from_legacy_anndata`",
    response="read",
)
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


@pytest.mark.contract(
    section="Other programs",
    case="stores of `spatialdata_io.visium`, `visium_hd`, `stereoseq` and `from_legacy_anndata`",
    response="read",
)
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


@pytest.mark.contract(
    section="Other programs",
    case="stores of `spatialdata_io.visium`, `visium_hd`, `stereoseq` and `from_legacy_anndata`",
    response="read",
)
def test_stereo_seq_store_is_read_by_cells_and_by_bins(tmp_path: Path) -> None:
    """Cells are circles; bins are points, one table for each bin size."""
    held = write_stereo_seq(tmp_path / "saw")
    store = spatialdata_io.stereoseq(tmp_path / "saw", read_square_bin=True)
    path = tmp_path / "stereo.zarr"
    with pytest.raises(InputError, match=r"--spots: bin20_genes, bin50_genes, cells_circles\."):
        through_disk(store, path)
    cells = read_slide(path, spots="cells_circles", image=next(iter(store.images)))
    np.testing.assert_array_equal(cells.centers, held.cells)
    np.testing.assert_array_equal(cells.counts.toarray(), held.cell_counts)
    assert cells.image is not None
    for size in (20, 50):
        slide = read_slide(path, spots=f"bin{size}_genes")
        np.testing.assert_array_equal(slide.centers, held.bins[size])
        np.testing.assert_array_equal(slide.counts.toarray(), held.bin_counts[size])
        assert slide.spot_shape == "square"
        assert slide.spot_diameter == pytest.approx(size)
