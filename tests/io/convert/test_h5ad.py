"""Tables as people have them: several sections, bins, images and scale factors, array coordinates."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from napari_srast.api import upsample
from napari_srast.core.settings import UpsampleSettings
from napari_srast.errors import InputError
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.io.convert.h5ad import TableOptions, convert_table
from napari_srast.io.convert.importer import import_slide
from napari_srast.io.slide_reader import read_slide

UM_PER_PX = 0.4
BARCODES = np.array(["".join("ACGT"[(i >> 2 * k) & 3] for k in range(16)) + "-1" for i in range(200)])


def visium(rows=8, cols=9, turn=0.1):
    """Return a table of a Visium array, as scanpy's ``read_visium`` builds it: positions in full-resolution pixels."""
    row, col = (a.ravel() for a in np.mgrid[:rows, :cols])
    col = 2 * col + row % 2
    micrometers = np.column_stack([col * 50.0, row * 50.0 * np.sqrt(3)])
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    pixels = micrometers @ spin / UM_PER_PX
    pixels += 300 - pixels.min(axis=0)
    size = (pixels.max(axis=0) + 300).astype(int)[::-1]
    images = {name: np.full((*(size * zoom).astype(int), 3), 0.5, np.float32) for name, zoom in ZOOMS.items()}
    factors = {f"tissue_{name}_scalef": zoom for name, zoom in ZOOMS.items()}
    factors["spot_diameter_fullres"] = 65 / UM_PER_PX
    n = len(row)
    return anndata.AnnData(
        np.random.default_rng(0).poisson(4, (n, 3)).astype(np.float32) + 1,
        obs=pd.DataFrame({"in_tissue": 1, "array_row": row, "array_col": col}, index=BARCODES[:n]),
        var=pd.DataFrame(index=["A", "B", "C"]),
        obsm={"spatial": pixels},
        uns={"spatial": {"mouse": {"images": images, "scalefactors": factors}}},
    )


ZOOMS = {"hires": 0.1, "lowres": 0.03}


def bins(side=8.0, n=6, **uns):
    """Return a table of bins without gaps."""
    row, col = (a.ravel() for a in np.mgrid[:n, :n])
    return anndata.AnnData(
        np.ones((n * n, 2), np.float32),
        obs=pd.DataFrame(index=[f"b{i}" for i in range(n * n)]),
        obsm={"spatial": np.column_stack([col, row]) * side},
        uns=uns,
    )


def imported(table, folder, **options):
    table.write_h5ad(folder / "in.h5ad")
    return read_slide(import_slide(folder / "in.h5ad", folder / "out.zarr", **options))


@pytest.mark.contract(
    section="Imports",
    case=".h5ad of scanpy's read_visium",
    response="image, scale factors and array are used; micrometers",
)
def test_visium_table_keeps_image_diameter_and_unit(tmp_path):
    table = visium()
    slide = imported(table, tmp_path)
    assert (slide.unit, slide.spot_diameter, slide.spot_shape) == ("um", 55.0, "circle")
    np.testing.assert_allclose(slide.centers, table.obsm["spatial"] * UM_PER_PX, rtol=1e-4)
    assert slide.image.name == "mouse_hires_image"
    np.testing.assert_allclose(slide.image.to_intrinsic[0], np.diag([4.0, 4.0, 1]), rtol=1e-4)
    assert slide.image.levels[0].dtype == np.uint8
    assert int(slide.image.levels[0].max()) == 128
    np.testing.assert_allclose(slide.transforms["mouse"], np.diag([2.5, 2.5, 1]), rtol=1e-4)


@pytest.mark.contract(
    section="Imports",
    case="few, scattered spots of a Visium table",
    response="micrometers come from the rows and columns of the array, not from distances",
)
def test_micrometers_of_few_scattered_spots_come_from_the_array(tmp_path):
    table = visium()[[0, 5, 26, 48, 71]].copy()  # none next to another
    slide = imported(table, tmp_path)
    np.testing.assert_allclose(slide.centers, table.obsm["spatial"] * UM_PER_PX, rtol=1e-4)
    assert slide.spot_diameter == 55


def test_platform_constants_need_evidence_of_the_platform(tmp_path):
    """Without array coordinates, Visium is recognized by its barcodes, its lattice and its diameter together."""
    table = visium()
    table.obs = table.obs.drop(columns=["array_row", "array_col"])
    slide = imported(table, tmp_path)
    assert slide.unit == "um"
    assert detect_lattice(slide.centers).pitch == pytest.approx(100, rel=1e-3)
    scattered = table[[0, 5, 26, 48, 71]].copy()
    (tmp_path / "b").mkdir()
    slide = imported(scattered, tmp_path / "b")
    assert slide.unit == "px"
    np.testing.assert_allclose(slide.centers, scattered.obsm["spatial"])
    assert slide.image is not None


def test_image_of_unknown_scale_is_left_out_with_a_notice(tmp_path):
    table = visium()
    del table.uns["spatial"]["mouse"]["scalefactors"]["tissue_hires_scalef"]
    slide = imported(table, tmp_path)
    assert slide.image.name == "mouse_lowres_image"
    assert any("Image 'hires'" in n and "tissue_hires_scalef" in n for n in slide.notices)


@pytest.mark.contract(
    section="Imports",
    case="positions in pixels of a smaller image, with the scale factors of the full-resolution image",
    response="*notice:* the spots are placed on the smaller image, as their distances tell",
)
@pytest.mark.parametrize("name", ["hires", "lowres"])
def test_positions_on_a_smaller_image_are_recognized(tmp_path, name):
    table = visium()
    table.obsm["spatial"] = table.obsm["spatial"] * ZOOMS[name]
    slide = imported(table, tmp_path)
    assert any(f"pixels of image '{name}' instead" in notice for notice in slide.notices)
    assert slide.image.name == "mouse_hires_image"
    um_per_px = UM_PER_PX / ZOOMS["hires"]
    np.testing.assert_allclose(slide.image.to_intrinsic[0], np.diag([um_per_px, um_per_px, 1]), rtol=1e-4)


def test_stated_diameter_that_fits_no_image_changes_no_scale(tmp_path):
    table = visium()
    table.uns["spatial"]["mouse"]["scalefactors"]["spot_diameter_fullres"] = 0.5
    slide = imported(table, tmp_path)
    np.testing.assert_allclose(slide.image.to_intrinsic[0], np.diag([4.0, 4, 1]), rtol=1e-4)


def test_contradicting_scale_factors_of_a_table_place_no_image(tmp_path):
    table = visium()
    table.uns["spatial"]["mouse"]["scalefactors"]["tissue_lowres_scalef"] = 0.02
    slide = imported(table, tmp_path)
    assert slide.image is None
    assert any(
        "'hires', 'lowres'" in n and "a scale factor or an image is of another slide" in n for n in slide.notices
    )


@pytest.mark.parametrize("kind", ["arrays", "texts", "channels first", "full resolution only"])
def test_images_and_scale_factors_are_read_as_tools_write_them(tmp_path, kind):
    table = visium()
    about = table.uns["spatial"]["mouse"]
    if kind == "arrays":
        about["scalefactors"] = {key: np.array([value]) for key, value in about["scalefactors"].items()}
    elif kind == "texts":
        about["scalefactors"] = {key: str(value) for key, value in about["scalefactors"].items()}
    elif kind == "channels first":
        about["images"] = {key: np.moveaxis(image, 2, 0) for key, image in about["images"].items()}
    else:
        shape = [round(n / ZOOMS["hires"]) for n in about["images"]["hires"].shape[:2]]
        about["images"] = {"fullres": np.full((*shape, 3), 200, np.uint8)}
        about["scalefactors"] = {"spot_diameter_fullres": about["scalefactors"]["spot_diameter_fullres"]}
        table.uns["spatial"]["is_single"] = True
    slide = imported(table, tmp_path)
    um_per_px = UM_PER_PX if kind == "full resolution only" else UM_PER_PX / ZOOMS["hires"]
    np.testing.assert_allclose(slide.image.to_intrinsic[0], np.diag([um_per_px, um_per_px, 1]), rtol=1e-4)
    assert slide.image.levels[0].shape[0] == 3


def test_image_file_of_unknown_size_is_refused(tmp_path):
    table = visium()
    Image.new("RGB", (5000, 5000)).save(tmp_path / "other.png")
    with pytest.raises(InputError, match=r"has 5000 x 5000 pixels, but by the scale factors .* or --pixel-size"):
        imported(table, tmp_path, image=tmp_path / "other.png")


@pytest.mark.parametrize(("brightest", "dtype"), [(200, np.uint8), (4000, np.uint16)])
def test_long_integers_of_an_image_are_shortened(tmp_path, brightest, dtype):
    table = visium()
    images = table.uns["spatial"]["mouse"]["images"]
    images["hires"] = np.full(images["hires"].shape, brightest)
    slide = imported(table, tmp_path)
    assert slide.image.levels[0].dtype == dtype
    assert slide.image.levels[0].max() == brightest


def test_ending_in_capitals_is_imported(tmp_path):
    bins(meta={"coord_unit": "um"}).write_h5ad(tmp_path / "IN.H5AD")
    assert read_slide(import_slide(tmp_path / "IN.H5AD", tmp_path / "out.zarr")).n_spots == 36


@pytest.mark.contract(
    section="Imports",
    case=".h5ad of several sections",
    response="names the column and the sections; choose one with --library",
)
def test_concatenated_sections_need_a_choice(tmp_path):
    first, second = visium(), visium(turn=0.3)
    second.uns["spatial"] = {"rat": second.uns["spatial"]["mouse"]}
    second.obsm["spatial"] += 40
    both = anndata.concat([first, second], label="library_id", keys=["mouse", "rat"], uns_merge="unique")
    both.obs_names_make_unique()
    both.uns["spatial"] = {**first.uns["spatial"], **second.uns["spatial"]}
    with pytest.raises(InputError, match=r"column 'library_id' of obs: mouse, rat\); choose one with --library"):
        imported(both, tmp_path)
    assert not (tmp_path / "out.zarr").exists()
    slide = imported(both, tmp_path, library="rat")
    assert slide.n_spots == second.n_obs
    np.testing.assert_allclose(slide.centers, second.obsm["spatial"] * UM_PER_PX, rtol=1e-4)
    assert slide.image.name == "rat_hires_image"
    assert any("Section 'rat' was read" in notice for notice in slide.notices)


def test_all_sections_are_kept_on_request(tmp_path):
    table = bins(100, spot_note=1)
    table = anndata.concat([table, table], label="batch", keys=["a", "b"], index_unique="-")
    with pytest.raises(InputError, match="column 'batch' of obs: a, b"):
        imported(table, tmp_path)
    assert imported(table, tmp_path, library="all").n_spots == 72


@pytest.mark.contract(
    section="Imports",
    case="bins of Visium HD or Stereo-seq in an .h5ad file",
    response="squares without gaps",
)
@pytest.mark.parametrize(
    "uns", [{"bin_size": 20}, {"bin_type": "bins"}, {"meta": {"platform": "10x Visium HD, 8 um bins"}}, {}]
)
def test_bins_are_squares_that_cover_their_cells(tmp_path, uns):
    slide = imported(bins(**uns), tmp_path)
    assert slide.spot_shape == "square"
    assert slide.spot_diameter == pytest.approx(8)
    assert any("--spot-shape circle" in notice for notice in slide.notices) == (uns == {})


def test_footprint_of_bins_is_their_whole_cell(tmp_path):
    slide = imported(bins(bin_size=8), tmp_path)
    settings = UpsampleSettings(method="uniform", factor=4, footprint="spot", expression="none")
    raster = upsample(slide, settings=settings).raster
    np.testing.assert_array_equal(np.bincount(raster.parent), 16)


def test_names_of_visium_hd_bins_give_side_and_unit(tmp_path):
    table = bins(16.0)  # pixels of 0.5 um
    table.obs_names = [f"s_008um_{i // 6:05d}_{i % 6:05d}-1" for i in range(36)]
    slide = imported(table, tmp_path)
    assert (slide.spot_shape, slide.unit) == ("square", "um")
    assert slide.spot_diameter == pytest.approx(8)
    np.testing.assert_allclose(slide.centers, table.obsm["spatial"] / 2)


@pytest.mark.parametrize("platform", ["Spatial Transcriptomics (legacy)", "10x Visium"])
def test_spots_of_known_platforms_are_round(tmp_path, platform):
    slide = imported(bins(200, meta={"platform": platform}), tmp_path)
    assert (slide.spot_shape, slide.spot_diameter) == ("circle", pytest.approx(110))


@pytest.mark.contract(
    section="Imports",
    case="nothing tells the shape of the spots",
    response="`--spot-shape circle` or `square` decides",
)
def test_spot_shape_option_decides(tmp_path):
    slide = imported(bins(200), tmp_path, spot_shape="circle")
    assert (slide.spot_shape, slide.spot_diameter) == ("circle", pytest.approx(110))
    again = read_slide(tmp_path / "out.zarr", spot_shape="square")
    assert (again.spot_shape, again.spot_diameter) == ("square", pytest.approx(200))
    with pytest.raises(Exception, match="must be circle or square"):
        read_slide(tmp_path / "out.zarr", spot_shape="hexagon")


@pytest.mark.contract(
    section="Imports",
    case="rows and columns of an array instead of positions",
    response="Visium: *notice:* placed on its array; else refused with the ways to state what they are",
)
@pytest.mark.parametrize("swapped", [False, True])
def test_array_coordinates_are_placed_on_the_visium_array(tmp_path, swapped):
    table = visium()
    expected = detect_lattice(table.obsm["spatial"]).kind
    columns = ["array_row", "array_col"] if swapped else ["array_col", "array_row"]
    table.obsm["spatial"] = table.obs[columns].to_numpy()
    slide = imported(table, tmp_path)
    lattice = detect_lattice(slide.centers)
    assert (lattice.kind, lattice.pitch) == (expected, pytest.approx(100)) == ("hex", pytest.approx(100))
    assert (slide.unit, slide.spot_diameter) == ("um", 55)
    assert any("rows and columns of the Visium array" in notice for notice in slide.notices)
    assert slide.image is None


@pytest.mark.parametrize("change", ["from one", "mirrored", "hundredfold", "few", "named row and col"])
def test_array_coordinates_in_other_steps_are_recognized(tmp_path, change):
    table = visium()
    indices = table.obs[["array_col", "array_row"]].to_numpy(dtype=float)
    changed = {"from one": indices + 1, "mirrored": indices * [1, -1], "hundredfold": indices * 100}
    table.obsm["spatial"] = changed.get(change, indices)
    if change == "few":
        table = table[[0, 5, 26, 48, 71]].copy()
    elif change == "named row and col":
        table.obs = table.obs.rename(columns={"array_row": "Row", "array_col": "Col"})
    slide = imported(table, tmp_path)
    expected = table.obs.iloc[:, [2, 1]].to_numpy() * [50, 50 * np.sqrt(3)]
    np.testing.assert_allclose(slide.centers, expected)
    assert (slide.unit, slide.spot_diameter, slide.image) == ("um", 55, None)
    assert any("rows and columns of the Visium array" in notice for notice in slide.notices)


def test_true_positions_along_the_axes_stay_positions(tmp_path):
    table = visium(turn=0.0)
    slide = imported(table, tmp_path)
    np.testing.assert_allclose(slide.centers, table.obsm["spatial"] * UM_PER_PX, rtol=1e-4)
    assert slide.image is not None


@pytest.mark.parametrize("left_out", ["spot_diameter_fullres", "microns_per_pixel"])
@pytest.mark.parametrize("name", ["b{i}", "s_008um_{row:05d}_{col:05d}-1"])
def test_images_are_not_placed_on_rows_and_columns_of_bins(tmp_path, name, left_out):
    table = bins(1.0)
    row, col = np.divmod(np.arange(36), 6)
    table.obs = pd.DataFrame(
        {"array_row": row, "array_col": col}, index=[name.format(i=i, row=row[i], col=col[i]) for i in range(36)]
    )
    picture = {"hires": np.full((60, 60, 3), 200, np.uint8)}
    factors = {"tissue_hires_scalef": 0.5, "spot_diameter_fullres": 16.0, "microns_per_pixel": 0.5}
    del factors[left_out]
    table.uns["spatial"] = {"lib": {"images": picture, "scalefactors": factors}}
    slide = imported(table, tmp_path)
    side = 8 if name.startswith("s_") else 1
    assert (slide.spot_shape, slide.spot_diameter, slide.image) == ("square", pytest.approx(side), None)
    assert slide.unit == ("um" if side == 8 else "array units")
    assert any("images" in n and "left out" in n and "positions are" in n for n in slide.notices)


@pytest.mark.contract(
    section="Imports",
    case="bins of Stereo-seq written by Stereopy, with the length of a step of the chip",
    response="squares in micrometers",
)
@pytest.mark.parametrize("kind", ["bins", "cell_bins"])
def test_steps_of_stereo_seq_become_micrometers(tmp_path, kind):
    table = bins(50.0, bin_type=kind, bin_size=50 if kind == "bins" else 1, resolution=500)
    slide = imported(table, tmp_path)
    np.testing.assert_allclose(slide.centers, table.obsm["spatial"] / 2)
    assert slide.unit == "um"
    assert any("from steps of 500 nm to micrometers" in notice for notice in slide.notices)
    other = bins(30.0, bin_type="bins", bin_size=50, resolution=500)  # positions in another unit
    assert read_slide(other).unit == "unknown"


def test_names_of_bins_count_with_the_name_of_their_sample(tmp_path):
    table = bins(16.0)
    table.obs_names = [f"colon_s_008um_{i // 6:05d}_{i % 6:05d}-1_a" for i in range(36)]
    slide = imported(table, tmp_path)
    assert (slide.spot_shape, slide.unit, slide.spot_diameter) == ("square", "um", pytest.approx(8))


def test_lattice_with_gaps_names_the_choice_of_the_shape(tmp_path):
    table = bins(8.0, n=10)
    slide = imported(table[np.random.default_rng(0).random(100) < 0.8].copy(), tmp_path)
    assert slide.spot_shape == "circle"
    assert any("import bins with --spot-shape square" in notice for notice in slide.notices)


@pytest.mark.contract(
    section="Imports",
    case="positions in micrometers with scale factors for pixels",
    response="used if the factors state the size of a pixel; else *notice:* the images were left out",
)
@pytest.mark.parametrize("unit", [{}, {"coord_unit": "um"}])
def test_scale_factors_of_pixels_are_not_applied_to_micrometers(tmp_path, unit):
    table = visium()
    expected = table.obsm["spatial"] * UM_PER_PX
    table.obsm["spatial"] = expected
    table.uns["meta"] = unit
    slide = imported(table, tmp_path)
    assert (slide.unit, slide.spot_diameter, slide.image) == ("um", 55, None)
    np.testing.assert_allclose(slide.centers, expected, rtol=1e-4)
    assert any("times their distance, so the positions are not in pixels" in notice for notice in slide.notices)
    table.uns["spatial"]["mouse"]["scalefactors"]["microns_per_pixel"] = UM_PER_PX
    slide = read_slide(table)
    np.testing.assert_allclose(slide.centers, expected, rtol=1e-4)
    np.testing.assert_allclose(slide.image.to_intrinsic[0], np.diag([4.0, 4, 1]), rtol=1e-4)


def test_fractions_of_16_bits_keep_their_range_and_other_values_are_no_image(tmp_path):
    table = visium()
    images = table.uns["spatial"]["mouse"]["images"]
    shape = images["hires"].shape
    images |= {"hires": np.full(shape, 40_000.0), "lowres": images["lowres"] - 1}
    slide = read_slide(table)
    assert slide.image.levels[0].dtype == np.uint16
    assert int(slide.image.levels[0].max()) == 40_000
    assert any("Image 'lowres' in uns['spatial']['mouse'] is not an image" in notice for notice in slide.notices)


def test_images_of_other_names_are_placed_or_mentioned():
    table = visium()
    about = table.uns["spatial"]["mouse"]
    about["images"] = {"HE": about["images"]["hires"]}
    assert any("Image 'HE'" in n and "'tissue_HE_scalef'" in n for n in read_slide(table).notices)
    about["scalefactors"]["tissue_HE_scalef"] = ZOOMS["hires"]
    slide = read_slide(table)
    assert slide.image.name == "mouse_HE_image"
    np.testing.assert_allclose(slide.image.to_intrinsic[0], np.diag([4.0, 4, 1]), rtol=1e-4)


def test_images_of_several_sections_without_a_column_are_mentioned():
    table = visium()
    table.uns["spatial"]["rat"] = {"images": {}, "scalefactors": {}}
    slide = read_slide(table)
    assert slide.image is None
    assert any("several sections (mouse, rat)" in n and "with --library" in n for n in slide.notices)
    assert read_slide(table, library="mouse").image is not None
    whole = read_slide(table, library="all")
    assert whole.image is None
    assert any("(mouse, rat), and the spots of all of them were read as one slide" in n for n in whole.notices)


def test_array_coordinates_of_unknown_arrays_are_refused(tmp_path, make_slide, make_store):
    table = visium()
    table.obsm["spatial"] = table.obs[["array_col", "array_row"]].to_numpy()
    table.obs = table.obs.drop(columns=["array_row", "array_col"])
    table.obs_names = [f"spot{i}" for i in range(table.n_obs)]
    with pytest.raises(InputError, match=r"array_row and array_col .* 'array units'"):
        imported(table, tmp_path)
    table.uns = {"meta": {"coord_unit": "array units"}}
    assert imported(table, tmp_path).unit == "array units"
    made = make_slide(8, 9, unit="unknown")
    row, col = (a.ravel() for a in np.mgrid[:8, :9])
    made.centers[:] = np.column_stack([2 * col + row % 2, row])
    with pytest.raises(InputError, match="positions of the spots 'spots' are rows and columns"):
        read_slide(make_store(made))


@pytest.mark.parametrize(
    ("stated", "unit"),
    [("\u00b5m", "um"), ("\u03bcm", "um"), ("Micrometers", "um"), ("pixels", "px"), ("furlongs", "unknown")],
)
def test_unit_of_the_coordinates_has_many_spellings(tmp_path, stated, unit):
    assert imported(bins(meta={"coord_unit": stated}), tmp_path).unit == unit


@pytest.mark.contract(
    section="Imports",
    case="positions in mm or nm by `uns['meta']['coord_unit']`",
    response="*notice:* converted to um, with the diameter and the image",
)
@pytest.mark.parametrize(("unit", "length"), [("mm", 1000.0), ("nm", 0.001)])
def test_other_units_of_length_become_micrometers(tmp_path, unit, length):
    table = visium(turn=0.0)
    micrometers = table.obsm["spatial"] * UM_PER_PX
    table.uns = {"meta": {"coord_unit": unit, "spot_diameter": 55 / length}}
    table.obs = table.obs[["in_tissue"]]
    table.obsm["spatial"] = micrometers / length
    Image.new("RGB", (600, 600)).save(tmp_path / "he.png")
    slide = imported(table, tmp_path, image=tmp_path / "he.png", pixel_size=2 / length)
    assert slide.unit == "um"
    assert slide.spot_diameter == pytest.approx(55)
    np.testing.assert_allclose(slide.centers, micrometers)
    np.testing.assert_allclose(slide.image.to_intrinsic[0], np.diag([2.0, 2, 1]), rtol=1e-6)
    assert set(slide.transforms) >= {"global", unit}


def test_rows_without_a_position_are_left_out_with_a_notice(tmp_path):
    table = bins(meta={"coord_unit": "um"})
    table.obsm["spatial"][[3, 7]] = [[np.nan, 1], [np.inf, 2]]
    slide = imported(table, tmp_path)
    assert slide.n_spots == 34
    assert any("2 spots of 'in.h5ad' have no finite coordinates" in n and "'b3'" in n for n in slide.notices)


def test_counts_of_raw_are_imported_with_their_genes(tmp_path):
    table = bins()
    full = table.copy()
    table = table[:, :1].copy()
    table.raw = full
    table.X = np.log1p(table.X)
    slide = imported(table, tmp_path)
    assert slide.n_genes == 2
    assert slide.counts.sum() == 72
    assert any(".raw were used" in notice for notice in slide.notices)


@pytest.mark.contract(
    section="Stores",
    case="AnnData table in memory",
    response="read like an .h5ad file",
)
def test_table_in_memory_is_read_like_a_file(tmp_path):
    table = visium()
    before = table.obsm["spatial"].copy()
    slide, stored = read_slide(table), imported(table, tmp_path)
    np.testing.assert_array_equal(slide.centers, stored.centers)
    np.testing.assert_array_equal(slide.counts.toarray(), stored.counts.toarray())
    np.testing.assert_array_equal(table.obsm["spatial"], before)
    assert slide.source.path is None
    assert slide.image.name == stored.image.name
    with pytest.raises(InputError, match="not from ndarray"):
        read_slide(np.zeros(3))


@pytest.mark.contract(
    section="Imports",
    case="positions of a Visium table as (row, column)",
    response="*notice:* mirrored compared with array_row and array_col",
)
def test_swapped_positions_of_a_visium_table_are_noticed():
    table = visium()
    assert not any("mirrored" in notice for notice in read_slide(table).notices)
    table.obsm["spatial"] = table.obsm["spatial"][:, ::-1]
    assert any("mirrored, as if x and y were swapped" in notice for notice in read_slide(table).notices)


def test_rows_and_columns_of_seurat_tell_the_unit():
    table = visium()
    table.obs = table.obs.rename(columns={"array_row": "row", "array_col": "col"}).drop(columns="in_tissue")
    table.uns = {}
    slide = read_slide(table)
    assert (slide.unit, slide.spot_diameter) == ("um", 55)
    table.obs["row"] = np.arange(table.n_obs)  # something else
    assert read_slide(table).unit == "unknown"


def test_cells_made_of_bins_are_no_bins():
    """The table that bin2cell makes: means of rows and columns, and the scale factors of the bins."""
    rng = np.random.default_rng(0)
    array = np.column_stack([a.ravel() for a in np.mgrid[:12, :12]]) * 5 + rng.uniform(-2, 2, (144, 2))
    factors = {"bin_size_um": 2.0, "microns_per_pixel": 0.25, "spot_diameter_fullres": 36.0, "tissue_hires_scalef": 0.1}
    table = anndata.AnnData(
        rng.poisson(4, (144, 3)).astype(np.float32),
        obs=pd.DataFrame({"array_row": array[:, 1], "array_col": array[:, 0]}, index=[f"c{i}" for i in range(144)]),
        obsm={"spatial": array * 8 + 100},
        uns={"spatial": {"s": {"scalefactors": factors}}},
    )
    slide = read_slide(table)
    assert (slide.unit, slide.spot_shape) == ("um", "circle")
    assert slide.spot_diameter == pytest.approx(9)
    np.testing.assert_allclose(slide.centers, table.obsm["spatial"] * 0.25)


def test_columns_of_any_type_are_kept():
    table = bins(n=2)
    table.obs["note"] = ["a", None, "b", "b"]
    table.obs["number"] = pd.array([1, 2, 3, 4], dtype="Int64")
    table.obs["missing"] = pd.array([1, None, 3, 4], dtype="Int64")
    table.obs["flag"] = pd.array([True, False, None, True], dtype="boolean")
    table.obs["text"] = pd.array(["a", "b", "c", "d"], dtype="string")
    table.obs["list"] = [[1]] * 4
    table.var["gene_symbols"] = ["A", None]
    table.var_names = ["ENSG00000000001", "ENSG00000000002"]
    stored = convert_table(table, "bins", TableOptions()).tables["table"]
    assert {"note", "number", "missing", "flag", "text"} <= set(stored.obs)
    assert "list" not in stored.obs
    assert stored.obs["number"].tolist() == [1, 2, 3, 4]
    assert stored.obs["missing"].isna().tolist() == [False, True, False, False]
    assert stored.obs["note"].astype(object).tolist()[2:] == ["b", "b"]
    assert list(read_slide(table).genes) == ["A", "ENSG00000000002"]


def test_backed_table_is_read(tmp_path):
    table = visium()
    table.write_h5ad(tmp_path / "in.h5ad")
    slide = read_slide(anndata.read_h5ad(tmp_path / "in.h5ad", backed="r"))
    np.testing.assert_array_equal(slide.counts.toarray(), table.X)


@pytest.mark.contract(
    section="Imports",
    case="fluorescence image given next to smaller images in colors",
    response="the given image is used",
)
def test_given_image_is_used_although_it_has_no_colors(tmp_path):
    table = visium()
    rows, columns = (int(n / ZOOMS["hires"]) for n in table.uns["spatial"]["mouse"]["images"]["hires"].shape[:2])
    stains = np.zeros((2, rows, columns), np.uint16)
    tifffile.imwrite(tmp_path / "if.ome.tif", stains, metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "GFAP"]}})
    slide = imported(table, tmp_path, image=tmp_path / "if.ome.tif")
    assert (slide.image.name, slide.image.channels) == ("if.ome", ("DAPI", "GFAP"))
    assert read_slide(tmp_path / "out.zarr", image="mouse_hires_image").image.is_color
