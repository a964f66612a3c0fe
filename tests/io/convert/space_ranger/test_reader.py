"""Import of complete and reduced Space Ranger folders: what they hold arrives, in micrometers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest
import spatialdata
import tifffile
from helpers.space_ranger import (
    Capture,
    capture_area,
    write_factors,
    write_h5,
    write_images,
    write_mtx,
    write_positions,
    write_visium,
    write_visium_hd,
)
from PIL import Image

from napari_srast.core.slide import Slide
from napari_srast.errors import InputError, SettingsError
from napari_srast.geometry.affine import apply_affine
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.io.convert.importer import import_slide
from napari_srast.io.slide_reader import read_slide

Import = Callable[..., Slide]


@pytest.fixture(name="load")
def _load(tmp_path: Path) -> Import:
    """Import a source and read the store."""

    def load(source: Path, **options: object) -> Slide:
        shutil.rmtree(tmp_path / "out.zarr", ignore_errors=True)
        return read_slide(import_slide(source, tmp_path / "out.zarr", **options))  # type: ignore[arg-type]

    return load


def assert_holds(slide: Slide, capture: Capture) -> None:
    np.testing.assert_array_equal(slide.counts.toarray(), capture.expected)
    np.testing.assert_allclose(slide.centers, capture.centers_um)
    assert (slide.unit, slide.coordinate_system) == ("um", "global")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("named", ["run", "outs", "spatial", "counts"])
def test_visium_run_is_imported_in_micrometers(load: Import, tmp_path: Path, version: int, named: str) -> None:
    capture = capture_area()
    outs = write_visium(tmp_path / "mouse 1", capture, version=version)
    source = {"run": outs.parent, "outs": outs, "spatial": outs / "spatial"}
    slide = load(source.get(named, outs / "filtered_feature_bc_matrix.h5"))
    assert_holds(slide, capture)
    assert slide.spot_diameter == pytest.approx(55)
    assert slide.spot_shape == "circle"
    assert slide.notices == ()
    assert slide.image is not None
    np.testing.assert_allclose(slide.image.to_intrinsic[0], np.diag([5.0, 5, 1]))
    # Space Ranger's coordinate systems, full-resolution and hires pixels, are kept.
    np.testing.assert_allclose(apply_affine(slide.transforms["mouse_1"], slide.centers), capture.centers_um / 2.5)
    hires = apply_affine(slide.transforms["mouse_1_downscaled_hires"], slide.centers)
    np.testing.assert_allclose(hires, capture.centers_um / 5)


@pytest.mark.contract(
    section="Imports",
    case="few, scattered spots of a Visium folder",
    response="micrometers come from the rows and columns of the array, not from distances",
)
@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 2, 3.0])
def test_scale_comes_from_the_array_also_with_few_scattered_spots(load: Import, tmp_path: Path, angle: float) -> None:
    capture = capture_area(12, 24, um_per_px=0.73, angle=angle, tissue=[3, 70, 139])
    slide = load(write_visium(tmp_path / "run", capture, images=False))
    np.testing.assert_allclose(slide.centers, capture.centers_um, rtol=1e-6)
    assert slide.spot_diameter == pytest.approx(55)


def test_table_keeps_ids_types_and_array_coordinates(load: Import, tmp_path: Path) -> None:
    capture = capture_area()
    load(write_visium(tmp_path / "run", capture))
    table = anndata.read_zarr(tmp_path / "out.zarr" / "tables" / "table")
    assert table.var["gene_ids"].iloc[0] == "ENSG00000000000"
    assert set(table.var["feature_types"]) == {"Gene Expression"}
    assert list(table.obs_names) == list(capture.barcodes[capture.tissue])
    assert list(table.obs["array_row"]) == list(capture.positions["array_row"][capture.tissue])


def test_full_resolution_image_is_placed_and_a_smaller_one_refused(load: Import, tmp_path: Path) -> None:
    outs = write_visium(tmp_path / "run", capture_area())
    Image.new("RGB", (341, 297), "pink").save(tmp_path / "full.png")
    slide = load(outs, image=tmp_path / "full.png")
    assert slide.image is not None
    assert slide.image.name == "full"
    np.testing.assert_allclose(slide.image.to_intrinsic[0], np.diag([2.5, 2.5, 1]))
    tifffile.imwrite(tmp_path / "if.tif", np.zeros((4, 297, 341), np.uint16), photometric="minisblack")
    stained = load(outs, image=tmp_path / "if.tif").image
    assert stained is not None
    assert (stained.name, len(stained.channels), stained.is_color) == ("if", 4, False)
    Image.new("RGB", (60, 50), "pink").save(tmp_path / "small.png")
    with pytest.raises(InputError, match=r"spots are inside the image .* give the full-resolution image"):
        load(outs, image=tmp_path / "small.png")


@pytest.mark.contract(
    section="Imports",
    case="files that CytAssist and Space Ranger 3 and 4 add to a run, such as segmented cells",
    response="the spots or bins are read as without them",
)
@pytest.mark.parametrize("bin_um", [None, 8])
def test_files_of_newer_versions_change_nothing(load: Import, tmp_path: Path, bin_um: int | None) -> None:
    capture = capture_area(bin_um=bin_um)
    write = write_visium if bin_um is None else write_visium_hd
    outs = write(tmp_path / "run", capture if bin_um is None else [capture])  # type: ignore[arg-type]
    (outs / "spatial").mkdir(exist_ok=True)
    for name in (
        "cytassist_image.tiff",
        "aligned_fiducials.jpg",
        "aligned_tissue_image.jpg",
        "detected_tissue_image.jpg",
    ):
        Image.new("RGB", (3000, 3000), "blue").save(outs / "spatial" / name)
    for name in ("spatial/spatial_enrichment.csv", "probe_set.csv", "metrics_summary.csv", "barcode_mappings.parquet"):
        (outs / name).write_text("a,b\n")
    cells = outs / "segmented_outputs"
    (cells / "spatial").mkdir(parents=True)
    write_h5(cells / "filtered_feature_cell_matrix.h5", capture.counts, capture.barcodes)
    (cells / "cell_segmentations.geojson").write_text("{}")
    slide = load(outs)
    assert_holds(slide, capture)
    assert slide.spot_shape == ("circle" if bin_um is None else "square")
    assert slide.image is None or slide.image.levels[0].shape[1] < 3000


@pytest.mark.contract(
    section="Imports",
    case="image of another size than the one that Space Ranger processed, such as that of the CytAssist",
    response="its size, and the one to give",
)
@pytest.mark.parametrize("size", [(3000, 3000), (296, 340), (682, 594)])
def test_full_resolution_image_of_another_size_is_refused(load: Import, tmp_path: Path, size: tuple[int, int]) -> None:
    outs = write_visium(tmp_path / "run", capture_area())
    Image.new("RGB", size, "pink").save(tmp_path / "other.png")
    with pytest.raises(InputError, match=rf"has {size[0]} x {size[1]} pixels, .* one of 340 x 296; give that one"):
        load(outs, image=tmp_path / "other.png")


@pytest.mark.contract(
    section="Imports",
    case="scale factors of two images of one slide that contradict each other",
    response="*notice:* the images were left out, unless the full-resolution image tells which one is right",
)
def test_contradicting_scale_factors_place_no_image(load: Import, tmp_path: Path) -> None:
    capture = capture_area()
    outs = write_visium(tmp_path / "run", capture)
    factors = outs / "spatial" / "scalefactors_json.json"
    factors.write_text(json.dumps({**json.loads(factors.read_text()), "tissue_hires_scalef": 0.125}))
    slide = load(outs)
    assert_holds(slide, capture)
    assert slide.image is None
    assert sum("1360 x 1184 pixels by 'hires' and 340 x 290 pixels by 'lowres'" in n for n in slide.notices) == 2
    Image.new("RGB", (340, 296), "pink").save(tmp_path / "full.png")
    load(outs, image=tmp_path / "full.png")
    store = spatialdata.read_zarr(tmp_path / "out.zarr")
    assert set(store.images) == {"full", "run_lowres_image"}


def test_spots_outside_of_the_image_and_its_orientation_are_noticed(load: Import, tmp_path: Path) -> None:
    outs = write_visium(tmp_path / "run", capture_area(), factors=False, images=False)
    orientation = Image.Exif()
    orientation[274] = 6
    Image.new("RGB", (240, 300), "pink").save(tmp_path / "full.jpg", exif=orientation)
    slide = load(outs, image=tmp_path / "full.jpg")
    assert slide.image is not None
    assert slide.image.levels[0].shape == (3, 300, 240)
    assert any("turned or mirrored (orientation 6)" in notice for notice in slide.notices)
    assert any("14 of 56 spots are outside of the image 'full'" in notice for notice in slide.notices)


def test_options_that_do_not_apply_are_refused(load: Import, tmp_path: Path) -> None:
    outs = write_visium(tmp_path / "run", capture_area())
    bins = write_visium_hd(tmp_path / "hd", [capture_area(5, 5, bin_um=8, um_per_px=0.5)])
    for source, options, message in (
        (outs, {"pixel_size": 0.5}, "leave the pixel size out"),
        (outs, {"bin_size": 8}, "leave --bin-size out"),
        (bins, {"spot_diameter": 8}, "--bin-size"),
        (bins, {"bin_size": 4}, "--bin-size: 8"),
    ):
        with pytest.raises(SettingsError, match=message):
            load(source, **options)
    with pytest.raises(InputError, match="leave --library out"):
        load(outs, library="other")
    assert load(outs, spot_diameter=50).spot_diameter == pytest.approx(50)


@pytest.mark.contract(
    section="Imports",
    case="Visium HD: the run, `binned_outputs` or a bin folder; `feature_slice.h5` prefixed or absent",
    response="squares of their true size; among several bin sizes 8 um with a notice, or `--bin-size`",
)
@pytest.mark.parametrize("feature_slice", ["", "feature_slice.h5", "colon_feature_slice.h5"])
def test_visium_hd_bins_are_squares_of_their_size(load: Import, tmp_path: Path, feature_slice: str) -> None:
    captures = {size: capture_area(6, 7, bin_um=size, um_per_px=0.5, angle=0.2) for size in (2, 8, 16)}
    outs = write_visium_hd(tmp_path / "hd", list(captures.values()), feature_slice=feature_slice)
    binned = outs / "binned_outputs"
    for source, options, size in (
        (outs.parent, {}, 8),
        (outs, {"bin_size": 16}, 16),
        (binned, {}, 8),
        (binned / "square_002um", {}, 2),
    ):
        slide = load(source, **options)
        assert_holds(slide, captures[size])
        assert slide.spot_shape == "square"
        assert slide.spot_diameter == pytest.approx(size)
        chosen = any(f"of {size} um were imported" in notice for notice in slide.notices)
        assert chosen == (source in (outs.parent, binned))
        assert slide.image is not None
    assert detect_lattice(slide.centers).angle == pytest.approx(0.2, abs=1e-3)


@pytest.mark.contract(
    section="Imports",
    case="bins of Visium HD in a folder that looks like Visium",
    response="the scale factors, the names of the barcodes or the square lattice give their size",
)
@pytest.mark.parametrize("evidence", ["factors", "pixel", "barcodes", "folder", "option"])
def test_bins_in_a_visium_folder_stay_bins(load: Import, tmp_path: Path, evidence: str) -> None:
    capture = capture_area(6, 7, bin_um=8, um_per_px=0.5)
    folder = tmp_path / ("square_008um" if evidence == "folder" else "sample")
    (folder / "spatial").mkdir(parents=True)
    if evidence != "barcodes":
        names = np.array([f"bin{i}" for i in range(len(capture.barcodes))], dtype=object)
        capture.positions["barcode"] = names
    write_h5(folder / "filtered_feature_bc_matrix.h5", capture.expected, capture.barcodes[capture.tissue])
    write_positions(folder / "spatial" / "tissue_positions_list.csv", capture)
    if evidence in ("factors", "pixel"):
        key = "bin_size_um" if evidence == "factors" else "microns_per_pixel"
        value = 8 if evidence == "factors" else 0.5
        (folder / "spatial" / "scalefactors_json.json").write_text(f'{{"{key}": {value}}}')
    slide = load(folder, **({"bin_size": 8} if evidence == "option" else {}))
    assert_holds(slide, capture)
    assert slide.spot_shape == "square"
    assert slide.spot_diameter == pytest.approx(8)


def test_bins_of_unstated_size_stay_in_pixels(load: Import, tmp_path: Path) -> None:
    capture = capture_area(6, 7, bin_um=8, um_per_px=0.5)
    capture.positions["barcode"] = [f"bin{i}" for i in range(len(capture.barcodes))]
    slide = load(write_visium(tmp_path / "sample", capture, factors=False, images=False))
    assert (slide.unit, slide.spot_shape) == ("px", "square")
    assert slide.spot_diameter == pytest.approx(16)
    assert any("--bin-size" in notice for notice in slide.notices)


@pytest.mark.contract(
    section="Imports",
    case="counts as .h5 or as folder, filtered or raw",
    response="any of them is read; a raw matrix is reduced to the spots under the tissue, with a notice",
)
@pytest.mark.parametrize("counts", ["filtered", "raw.h5", "raw", "filtered.h5"])
@pytest.mark.parametrize("bin_um", [None, 8])
def test_any_matrix_is_enough(load: Import, tmp_path: Path, counts: str, bin_um: int | None) -> None:
    capture = capture_area(bin_um=bin_um)
    write = write_visium if bin_um is None else write_visium_hd
    slide = load(write(tmp_path / "run", capture if bin_um is None else [capture], counts=[counts]))  # type: ignore[operator]
    assert_holds(slide, capture)
    n_outside = (~capture.tissue).sum()
    assert any(f"{n_outside} spots" in notice for notice in slide.notices) == counts.startswith("raw")


def test_damaged_matrix_is_replaced_by_another_one(load: Import, tmp_path: Path) -> None:
    capture = capture_area()
    outs = write_visium(tmp_path / "run", capture, counts=["filtered.h5", "filtered"])
    (outs / "filtered_feature_bc_matrix.h5").write_bytes(b"torn")
    slide = load(outs)
    assert_holds(slide, capture)
    assert any("another matrix was used" in notice for notice in slide.notices)
    shutil.rmtree(outs / "filtered_feature_bc_matrix")
    with pytest.raises(InputError, match=r"filtered_feature_bc_matrix\.h5' cannot be read"):
        load(outs)


@pytest.mark.contract(
    section="Imports",
    case="no scale factors, or damaged ones",
    response="positions and array give the micrometers; images of unknown scale are left out with a notice",
)
@pytest.mark.parametrize("content", [None, "{torn", "[1, 2]"])
def test_scale_factors_are_not_needed(load: Import, tmp_path: Path, content: str | None) -> None:
    capture = capture_area()
    outs = write_visium(tmp_path / "run", capture, factors=False)
    if content is not None:
        (outs / "spatial" / "scalefactors_json.json").write_text(content)
    slide = load(outs)
    assert_holds(slide, capture)
    assert slide.image is None
    assert any("tissue_hires_image.png" in notice for notice in slide.notices)
    width, height = Image.open(outs / "spatial" / "tissue_hires_image.png").size
    Image.new("RGB", (2 * width, 2 * height), "pink").save(tmp_path / "full.png")
    load(outs, image=tmp_path / "full.png")  # its size gives the scale of the others
    hires = read_slide(tmp_path / "out.zarr", image="run_hires_image").image
    assert hires is not None
    np.testing.assert_allclose(hires.to_intrinsic[0], np.diag([5.0, 5, 1]))


def test_scale_factors_that_are_text_are_numbers(load: Import, tmp_path: Path) -> None:
    outs = write_visium(tmp_path / "run", capture_area())
    path = outs / "spatial" / "scalefactors_json.json"
    factors = {key: str(value) for key, value in json.loads(path.read_text()).items()}
    path.write_text(json.dumps({**factors, "note": "none", "flag": True, "list": [1]}))
    slide = load(outs)
    assert slide.image is not None
    np.testing.assert_allclose(slide.image.to_intrinsic[0], np.diag([5.0, 5, 1]))
    assert slide.notices == ()


@pytest.mark.contract(
    section="Imports",
    case="gray or damaged image in a Space Ranger folder",
    response="gray is used; a damaged image is left out with a notice, and the slide is imported",
)
def test_gray_image_is_used_and_a_damaged_one_left_out(load: Import, tmp_path: Path) -> None:
    capture = capture_area()
    outs = write_visium(tmp_path / "run", capture, images=False)
    write_images(outs / "spatial", capture, mode="L")
    slide = load(outs)
    assert slide.image is not None
    assert slide.image.levels[0].shape[0] == 1
    assert slide.notices == ()
    hires = outs / "spatial" / "tissue_hires_image.png"
    hires.write_bytes(hires.read_bytes()[:60])
    slide = load(outs)
    assert_holds(slide, capture)
    assert slide.image is not None
    assert slide.image.name == "run_lowres_image"
    assert any("'tissue_hires_image.png' cannot be read" in notice for notice in slide.notices)


@pytest.mark.contract(
    section="Imports",
    case="barcodes of counts and positions with and without their number (`-1`)",
    response="matched without it, as long as that is unambiguous",
)
@pytest.mark.parametrize(("in_counts", "in_positions"), [("", "-1"), ("-1", "")])
def test_barcodes_match_with_and_without_their_number(
    load: Import, tmp_path: Path, in_counts: str, in_positions: str
) -> None:
    capture = capture_area(suffix=in_positions)
    outs = write_visium(tmp_path / "run", capture)
    barcodes = [name.removesuffix("-1") + in_counts for name in capture.barcodes[capture.tissue]]
    write_h5(outs / "filtered_feature_bc_matrix.h5", capture.expected, barcodes)
    assert_holds(load(outs), capture)


def test_barcodes_without_positions_are_counted_or_refused(load: Import, tmp_path: Path) -> None:
    capture = capture_area()
    outs = write_visium(tmp_path / "run", capture)
    barcodes = capture.barcodes[capture.tissue].copy()
    barcodes[:2] = ["AAAA-1", "CCCC-1"]
    write_h5(outs / "filtered_feature_bc_matrix.h5", capture.expected, barcodes)
    slide = load(outs)
    assert slide.n_spots == capture.tissue.sum() - 2
    assert any("2 spots of 'filtered_feature_bc_matrix.h5' have no position" in notice for notice in slide.notices)
    write_h5(outs / "filtered_feature_bc_matrix.h5", capture.expected, [f"X{i}" for i in range(len(barcodes))])
    with pytest.raises(InputError, match=r"No barcode of the counts .*X0"):
        load(outs)


def test_positions_without_numbers_are_refused(load: Import, tmp_path: Path) -> None:
    capture = capture_area()
    outs = write_visium(tmp_path / "run", capture)
    for file in (outs / "spatial").glob("tissue_positions*"):
        file.write_text("".join(f"{barcode},1,a,b,c,d\n" for barcode in capture.barcodes))
    with pytest.raises(InputError, match=r"No spot of the counts .* position on the image that is a number"):
        load(outs)


@pytest.mark.contract(
    section="Imports",
    case="flat folder with a prefix, as deposited in GEO",
    response="files with the same prefix are one slide; among several slides --library chooses",
)
def test_flat_folders_with_prefixes_are_imported(load: Import, tmp_path: Path) -> None:
    folder = tmp_path / "geo"
    folder.mkdir()
    captures = {f"GSM{i}_{name}": capture_area(seed=i) for i, name in enumerate(("young", "old"))}
    for prefix, capture in captures.items():
        write_mtx(folder, capture.expected, capture.barcodes[capture.tissue], prefix=f"{prefix}_")
        write_positions(folder / f"{prefix}_tissue_positions_list.csv.gz", capture)
        write_factors(folder / f"{prefix}_scalefactors_json.json", capture)
        write_images(folder, capture, prefix=f"{prefix}_")
        if prefix == "GSM0_young":
            slide = load(folder)
            assert_holds(slide, capture)
            assert slide.source.spots == "GSM0_young"
    with pytest.raises(InputError, match=r"several slides; choose one with --library: GSM0_young, GSM1_old"):
        load(folder)
    slide = load(folder, library="GSM1_old")
    assert_holds(slide, captures["GSM1_old"])
    assert slide.image is not None
    assert slide.image.name == "GSM1_old_hires_image"


@pytest.mark.contract(
    section="Imports",
    case="folder with a general name, such as `outs`",
    response="the slide is named by its library, or by the nearest folder with a name",
)
def test_name_comes_from_the_library_or_the_nearest_folder_with_a_name(
    load: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outs = write_visium(tmp_path / "patient 7", capture_area(), library="V1_Breast")
    monkeypatch.chdir(outs.parent)
    assert load(Path("outs")).source.spots == "V1_Breast"
    (outs / "filtered_feature_bc_matrix.h5").unlink()
    (outs / "filtered_feature_bc_matrix").mkdir()
    capture = capture_area()
    write_mtx(outs / "filtered_feature_bc_matrix", capture.expected, capture.barcodes[capture.tissue])
    assert load(Path("outs")).source.spots == "patient_7"
    monkeypatch.chdir(outs)
    assert load(Path()).source.spots == "patient_7"
