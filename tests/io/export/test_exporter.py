"""Exports for image viewers and QuPath: their content, their places, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
from helpers.results import make_result, with_random_shares
from helpers.slides import make_slide
from scipy import sparse

import napari_srast as srast
from napari_srast.core.progress import Progress
from napari_srast.core.region import Region
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import SlideImage
from napari_srast.errors import Cancelled, InputError, OutputError, SettingsError
from napari_srast.geometry.affine import apply_affine
from napari_srast.io.export.exporter import export
from napari_srast.io.result_writer import write_result


def _with_expression(result: UpsampleResult) -> UpsampleResult:
    """Add expression of the first two genes: twice the counts plus one."""
    expression = sparse.lil_matrix(result.counts.shape, dtype=np.float32)
    expression[:, :2] = 2 * result.counts[:, :2].toarray() + 1
    return dataclasses.replace(result, expression=expression.tocsr(), expression_columns=np.arange(2))


@pytest.fixture
def result() -> UpsampleResult:
    """A result whose pixels differ, with pixels outside the spots."""
    region = Region.from_wkt("POLYGON ((-50 -50, 450 -50, 450 250, -50 150, -50 -50))")
    return with_random_shares(make_result(make_slide(5, 6, n_genes=4), region, factor=3))


@pytest.mark.contract(
    section="Other programs",
    case="a result exported as OME-TIFF",
    response="float32, genes as channels, the size of a pixel, 0 outside",
)
def test_ome_tiff_has_genes_as_channels_and_the_size_of_a_pixel(result: UpsampleResult, tmp_path: Path) -> None:
    path = export(result, tmp_path / "fine.ome.tif")
    with tifffile.TiffFile(path) as file:
        image, level = file.asarray(), file.series[0].levels[0]
        xml = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        assert file.is_ome
        assert level.axes == "CYX"
        assert file.pages[0].is_tiled
    assert image.dtype == np.float32
    assert image.shape == (4, *result.raster.shape)
    expected = np.stack([result.gene_image(str(gene)) for gene in result.genes])
    assert np.isnan(expected).any()
    np.testing.assert_array_equal(image, np.nan_to_num(expected, nan=0))
    assert [channel["Name"] for channel in xml["Pixels"]["Channel"]] == result.genes.tolist()
    assert xml["Pixels"]["PhysicalSizeX"] == pytest.approx(100 / 3)
    assert xml["Pixels"]["PhysicalSizeYUnit"] == "µm"
    np.testing.assert_allclose(json.loads(xml["Description"])["pixel_to_spots"], result.raster.affine)


@pytest.mark.contract(
    section="Other programs",
    case="a large result exported as OME-TIFF",
    response="has a pyramid",
)
def test_ome_tiff_of_a_large_image_has_a_pyramid_of_means(tmp_path: Path) -> None:
    result = make_result(make_slide(6, 40, n_genes=2), factor=16)
    path = export(result, tmp_path / "fine.ome.tif", genes=["Gene1"])
    with tifffile.TiffFile(path) as file:
        levels = [level.asarray() for level in file.series[0].levels]
    assert [level.shape[-2:] for level in levels] == [(96, 640), (48, 320), (24, 160)]
    blocks = levels[0].reshape(48, 2, 320, 2)
    np.testing.assert_allclose(levels[1].reshape(48, 320), blocks.mean(axis=(1, 3)), rtol=1e-6)
    assert levels[2].sum() * 16 == pytest.approx(levels[0].sum(), rel=1e-5)


def test_ome_tiff_without_micrometers_has_no_size(tmp_path: Path) -> None:
    path = export(make_result(make_slide(5, 6, n_genes=1, unit="unknown")), tmp_path / "fine.ome.tiff")
    with tifffile.TiffFile(path) as file:
        assert "PhysicalSize" not in file.ome_metadata


def test_any_gene_name_is_a_channel_name(tmp_path: Path) -> None:
    result = make_result(make_slide(5, 6, n_genes=2))
    names = np.array(['<a> & "b"', "µ-Gene, 1"], dtype=object)
    slide = dataclasses.replace(result.slide, genes=names)
    path = export(dataclasses.replace(result, genes=names, slide=slide), tmp_path / "fine.ome.tif")
    with tifffile.TiffFile(path) as file:
        channels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]["Channel"]
    assert [channel["Name"] for channel in channels] == names.tolist()


def test_expression_is_exported_by_choice(result: UpsampleResult, tmp_path: Path) -> None:
    result = _with_expression(result)
    image = tifffile.imread(export(result, tmp_path / "fine.ome.tif", layer="expression"))
    assert image.shape[0] == 2
    np.testing.assert_array_equal(image[1], np.nan_to_num(result.gene_image("Gene1", "expression"), nan=0))
    with pytest.raises(InputError, match="no expression of gene 'Gene3'"):
        export(result, tmp_path / "other.ome.tif", genes=["Gene3"], layer="expression")
    with pytest.raises(InputError, match="no standard deviation"):
        export(result, tmp_path / "other.ome.tif", layer="std")


@pytest.mark.parametrize("name", ["fine.ome.tif", "fine.geojson"])
def test_the_same_result_gives_the_same_bytes(result: UpsampleResult, tmp_path: Path, name: str) -> None:
    first = export(result, tmp_path / name).read_bytes()
    (tmp_path / "again").mkdir()
    assert export(result, tmp_path / "again" / name).read_bytes() == first


# ------------------------------------------------------------------ QuPath


@pytest.mark.contract(
    section="Other programs",
    case="a result exported as GeoJSON",
    response="QuPath places its pixels on the image",
)
def test_pixels_become_detections_where_the_image_shows_them(tmp_path: Path) -> None:
    to_spots = np.array([[5.0, 0.5, -60.0], [-0.5, 5.0, -40.0], [0.0, 0.0, 1.0]])
    image = SlideImage(name="he", levels=(np.zeros((3, 90, 120), dtype=np.uint8),), to_intrinsic=(to_spots,))
    result = with_random_shares(make_result(make_slide(5, 6, n_genes=4, image=image), factor=3))
    content = json.loads(export(result, tmp_path / "pixels.geojson", genes=["Gene0", "Gene1"]).read_text())
    assert len(content["features"]) == result.n_pixels
    k = result.n_pixels // 2
    feature = content["features"][k]
    assert feature["properties"]["objectType"] == "detection"
    assert feature["properties"]["name"] == result.slide.spot_ids[result.raster.parent[k]]
    assert feature["properties"]["measurements"] == pytest.approx(
        {"Gene0": result.counts[k, 0], "Gene1": result.counts[k, 1]}, rel=1e-6
    )
    square = shapely.from_geojson(json.dumps(feature["geometry"]))
    center = apply_affine(to_spots, np.array([[square.centroid.x, square.centroid.y]]))
    np.testing.assert_allclose(center, result.raster.centers[[k]], atol=0.01)
    side = result.raster.pixel_size / np.sqrt(np.linalg.det(to_spots))
    assert square.area == pytest.approx(side**2, rel=1e-3)
    assert len({f["id"] for f in content["features"]}) == result.n_pixels


def test_without_an_image_pixels_are_in_the_coordinates_of_the_slide(result: UpsampleResult, tmp_path: Path) -> None:
    content = json.loads(export(result, tmp_path / "pixels.geojson").read_text())
    square = shapely.from_geojson(json.dumps(content["features"][3]["geometry"]))
    np.testing.assert_allclose([square.centroid.x, square.centroid.y], result.raster.centers[3], atol=1e-3)


def test_the_region_becomes_an_annotation_with_its_sums(result: UpsampleResult, tmp_path: Path) -> None:
    content = json.loads(export(result, tmp_path / "region.geojson", objects="region").read_text())
    (feature,) = content["features"]
    assert feature["properties"]["objectType"] == "annotation"
    measured = feature["properties"]["measurements"]
    assert measured["pixels"] == result.n_pixels
    total = result.slide.counts[result.raster.spots].sum(axis=0)
    assert measured["Gene1: sum"] == pytest.approx(total[0, 1], rel=1e-6)
    assert measured["Gene1: mean"] == pytest.approx(total[0, 1] / result.n_pixels, rel=1e-6)
    outline = shapely.from_geojson(json.dumps(feature["geometry"]))
    assert outline.equals(result.region.geometry)
    assert Region.from_geojson(json.dumps(content)).geometry.equals(outline)


# ------------------------------------------------------------------ other formats, and refusals


def test_a_written_result_is_exported_by_its_path(tmp_path: Path) -> None:
    result = make_result()
    stored = write_result(result, tmp_path / "fine.zarr")
    image = tifffile.imread(srast.export(stored, tmp_path / "fine.ome.tif", genes=["Gene1"]))
    np.testing.assert_array_equal(np.squeeze(image), np.nan_to_num(result.gene_image("Gene1"), nan=0))
    assert export(stored, tmp_path / "fine.csv").read_text().startswith("x,y,spot,Gene0")


@pytest.mark.contract(
    section="Outputs and system errors",
    case="The output of an export exists, has an unknown ending, or is inside the slide or the result",
    response="refused with the known endings; nothing is written",
)
def test_outputs_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    stored = write_result(make_result(), tmp_path / "fine.zarr")
    (tmp_path / "old.ome.tif").write_bytes(b"old")
    for name, message in (
        ("plain.tif", r"no known ending.*\.ome\.tif"),
        ("old.ome.tif", "exists already"),
        ("missing/fine.ome.tif", "does not exist"),
        ("fine.zarr/fine.ome.tif", "inside the input"),
    ):
        with pytest.raises(OutputError, match=message):
            export(stored, tmp_path / name)
    assert (tmp_path / "old.ome.tif").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fine.zarr", "old.ome.tif"]


@pytest.mark.contract(
    section="Requests",
    case="An export asks for a gene, a layer or a region that the result lacks",
    response="refused with the next step; nothing is written",
)
def test_requests_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    result = dataclasses.replace(make_result(), expression=None, expression_columns=np.empty(0, dtype=int))
    for name, options, kind, message in (
        ("a.ome.tif", {"genes": ["Nothing"]}, InputError, "no gene 'Nothing'"),
        ("a.ome.tif", {"genes": []}, SettingsError, "list of genes is empty"),
        ("a.ome.tif", {"genes": "Gene1"}, SettingsError, r"write \['Gene1'\]"),
        ("a.ome.tif", {"layer": "rates"}, SettingsError, "must be one of: counts, expression"),
        ("a.ome.tif", {"layer": "expression"}, InputError, "no expression"),
        ("a.ome.tif", {"objects": "region"}, SettingsError, r"Only a \.geojson"),
        ("a.geojson", {"objects": "cells"}, SettingsError, "pixels, region"),
        ("a.geojson", {"objects": "region"}, InputError, "has no region"),
        ("a.csv", {"genes": ["Gene1"]}, SettingsError, "holds all genes"),
    ):
        with pytest.raises(kind, match=message):
            export(result, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.contract(
    section="Outputs and system errors",
    case="An export is canceled, or the disk fills up while it is written",
    response="one sentence for the full disk; nothing is left behind",
)
@pytest.mark.parametrize("name", ["fine.ome.tif", "fine.geojson"])
def test_stopped_exports_leave_nothing(
    result: UpsampleResult, tmp_path: Path, name: str, filling_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    with pytest.raises(Cancelled):
        export(result, tmp_path / name, should_stop=lambda: True)
    with filling_disk(), pytest.raises(OutputError, match=r"cannot be written.*nothing was left behind\.$"):
        export(result, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_progress_is_reported_from_the_start(result: UpsampleResult, tmp_path: Path) -> None:
    reports: list[Progress] = []
    export(result, tmp_path / "fine.ome.tif", progress=reports.append)
    assert [step.fraction for step in reports] == [0, 0.25, 0.5, 0.75]
    assert {step.stage for step in reports} == {"saving"}
