"""Slides of fine bins are read with their frame, genes and image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.bins import bins_table
from PIL import Image
from scipy import sparse

from napari_srast.core.slide import Slide, SlideImage
from napari_srast.errors import InputError, SettingsError
from napari_srast.evaluation.fine_slide import FineSlide, abundant_genes, read_fine_slide
from napari_srast.geometry.affine import apply_affine
from napari_srast.io.convert.importer import import_slide


def slide_of_points(points: np.ndarray, image: SlideImage | None = None) -> Slide:
    return Slide(
        counts=sparse.csr_matrix(np.ones((len(points), 1), dtype=np.float32)),
        genes=np.array(["A"]),
        spot_ids=np.arange(len(points)).astype(str),
        centers=points,
        image=image,
    )


def test_bins_are_turned_along_x_and_y_together_with_the_image() -> None:
    row, col = (a.ravel() for a in np.mgrid[:20, :30])
    grid = (np.column_stack([col, row]) + 0.5) * 2.0
    angle = 0.1
    turn = np.array([[np.cos(angle), -np.sin(angle), 70.0], [np.sin(angle), np.cos(angle), -5.0], [0, 0, 1]])
    image = SlideImage(name="he", levels=(np.zeros((3, 40, 60), np.uint8),), to_intrinsic=(turn,))
    fine = FineSlide.of_slide(slide_of_points(apply_affine(turn, grid), image), "turned")
    assert fine.bin_side == pytest.approx(2.0)
    np.testing.assert_allclose(fine.points, grid, atol=1e-6)
    assert fine.image is not None
    np.testing.assert_allclose(fine.image.to_intrinsic[0], np.eye(3), atol=1e-6)


def test_cells_are_points_without_a_side() -> None:
    points = np.random.default_rng(0).uniform(50, 100, (300, 2))
    fine = FineSlide.of_slide(slide_of_points(points), "cells")
    assert fine.bin_side == 0
    np.testing.assert_allclose(fine.points.min(axis=0), 0, atol=1e-9)


def test_abundant_genes_leave_out_technical_ones() -> None:
    counts = sparse.csr_matrix(np.diag([5.0, 9, 7, 0, 6]))
    genes = np.array(["A", "MT-CO1", "Rpl3", "B", "C"])
    np.testing.assert_array_equal(abundant_genes(counts, genes, 5), [4, 0])
    np.testing.assert_array_equal(abundant_genes(counts, genes, 1), [4])
    with pytest.raises(SettingsError, match="number of genes is 0"):
        abundant_genes(counts, genes, 0)


def test_table_and_store_are_read_equally(tmp_path: Path) -> None:
    table = bins_table(20, n_genes=3)
    table.obsm["spatial_px"] = table.obsm["spatial"] * 2
    table.write_h5ad(tmp_path / "bins.h5ad")
    pixels = np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "he.png")
    store = import_slide(tmp_path / "bins.h5ad", tmp_path / "bins.zarr", image=tmp_path / "he.png")
    of_table = read_fine_slide(tmp_path / "bins.h5ad", image=tmp_path / "he.png", genes=["Gene2", "Gene0"])
    of_store = read_fine_slide(store, image="auto", genes=["Gene2", "Gene0"])
    for fine in (of_table, of_store):
        assert list(fine.genes) == ["Gene2", "Gene0"]
        assert fine.name == "bins"
        assert fine.bin_side == pytest.approx(2.0)
        np.testing.assert_allclose(fine.points, table.obsm["spatial"], atol=1e-6)
        np.testing.assert_array_equal(fine.counts.toarray(), table.X[:, [2, 0]].toarray())
        assert fine.image is not None
        np.testing.assert_allclose(fine.image.to_intrinsic[0], np.diag([0.5, 0.5, 1]), atol=1e-6)
        np.testing.assert_array_equal(np.asarray(fine.image.levels[0]), np.moveaxis(pixels, 2, 0))
    assert read_fine_slide(tmp_path / "bins.h5ad").image is None
    assert read_fine_slide(store).image is None


def test_section_of_a_table_or_store_is_chosen(tmp_path: Path) -> None:
    table = bins_table(8, n_genes=2)
    table.obs["library_id"] = np.where(np.arange(64) < 32, "left", "right")
    table.uns["spatial"] = {"left": {}, "right": {}}
    table.write_h5ad(tmp_path / "bins.h5ad")
    store = import_slide(tmp_path / "bins.h5ad", tmp_path / "bins.zarr", library="all")
    for path in (tmp_path / "bins.h5ad", store):
        fine = read_fine_slide(path, library="right")
        np.testing.assert_array_equal(fine.counts.toarray(), table.X[32:].toarray())
        with pytest.raises(InputError, match="no section 'middle'; choose one with --library: left, right"):
            read_fine_slide(path, library="middle")
    with pytest.raises(InputError, match=r"2 sections .* choose one with --library"):
        read_fine_slide(tmp_path / "bins.h5ad")


def test_unusable_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither an \.h5ad"):
        read_fine_slide(tmp_path / "bins.csv")
    table = bins_table(8, n_genes=2)
    table.write_h5ad(tmp_path / "bins.h5ad")
    with pytest.raises(InputError, match="Gene7"):
        read_fine_slide(tmp_path / "bins.h5ad", genes=["Gene7"])
