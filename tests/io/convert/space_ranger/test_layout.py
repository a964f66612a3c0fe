"""Files of Space Ranger are found where people put them, and what is missing is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.space_ranger import (
    capture_area,
    write_aggregate,
    write_h5,
    write_positions,
    write_visium,
    write_visium_hd,
)

from napari_srast.cli import main
from napari_srast.errors import InputError
from napari_srast.io.convert.importer import import_slide
from napari_srast.io.convert.space_ranger import is_space_ranger
from napari_srast.io.convert.space_ranger.layout import find_files
from napari_srast.io.slide_reader import read_slide
from napari_srast.io.store import open_store


def test_folders_of_space_ranger_are_recognized(tmp_path: Path) -> None:
    outs = write_visium(tmp_path / "visium", capture_area(4, 6), images=False)
    binned = write_visium_hd(tmp_path / "hd", [capture_area(4, 4, bin_um=8)]) / "binned_outputs"
    for folder in (outs, outs.parent, outs / "spatial", binned, binned.parent, binned / "square_008um"):
        assert is_space_ranger(folder), folder
        with pytest.raises(InputError, match="napari-srast import"):
            open_store(folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "zarr.json").write_text("{}")
    (tmp_path / "other" / "spatial").mkdir()
    for folder in (tmp_path, tmp_path / "other", tmp_path / "missing", outs / "filtered_feature_bc_matrix.h5"):
        assert not is_space_ranger(folder), folder


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("filtered_feature_bc_matrix.h5", r"no counts \(expected: filtered_feature_bc_matrix.h5.*'outs'"),
        ("spatial/tissue_positions.csv", r"no positions of the spots \(expected: spatial/tissue_positions.csv.*'outs'"),
    ],
)
def test_missing_part_is_named_with_the_file_expected(tmp_path: Path, missing: str, message: str) -> None:
    outs = write_visium(tmp_path / "run", capture_area(4, 6))
    (outs / missing).unlink()
    with pytest.raises(InputError, match=message):
        import_slide(outs, tmp_path / "out.zarr")
    (outs / "GSM1_spatial.tar.gz").touch()
    with pytest.raises(InputError, match=r"unpack GSM1_spatial\.tar\.gz"):
        import_slide(outs, tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


def test_folder_of_several_runs_names_them(tmp_path: Path) -> None:
    for name in ("young", "old"):
        write_visium(tmp_path / name, capture_area(4, 6), images=False)
    with pytest.raises(InputError, match="choose one of its folders: old, young"):
        find_files(tmp_path)


def test_counts_and_positions_of_different_samples_are_refused(tmp_path: Path) -> None:
    capture = capture_area(4, 6)
    write_h5(tmp_path / "GSM1_filtered_feature_bc_matrix.h5", capture.counts, capture.barcodes)
    write_positions(tmp_path / "GSM2_tissue_positions.csv", capture)
    with pytest.raises(InputError, match=r"\(GSM1\) and the positions \(GSM2\) have different prefixes"):
        find_files(tmp_path)


def test_named_counts_file_selects_its_slide(tmp_path: Path) -> None:
    for name in ("a", "b"):
        capture = capture_area(4, 6)
        write_h5(tmp_path / f"{name}_filtered_feature_bc_matrix.h5", capture.counts, capture.barcodes)
        write_positions(tmp_path / f"{name}_tissue_positions.csv", capture)
    files = find_files(tmp_path / "b_filtered_feature_bc_matrix.h5")
    assert [path.name for path in files.positions] == ["b_tissue_positions.csv"]
    (tmp_path / "a_filtered_feature_bc_matrix.h5").unlink()
    assert find_files(tmp_path).sample == "b"


def test_copied_bin_folder_needs_no_other_folder(tmp_path: Path) -> None:
    outs = write_visium_hd(tmp_path / "hd", [capture_area(4, 4, bin_um=size) for size in (8, 16)])
    shutil.copytree(outs / "binned_outputs" / "square_016um", tmp_path / "copy")
    slide = read_slide(import_slide(tmp_path / "copy", tmp_path / "out.zarr"))
    assert (slide.spot_shape, round(slide.spot_diameter or 0)) == ("square", 16)


@pytest.mark.contract(
    section="Imports",
    case="output of `spaceranger aggr`: several libraries in one matrix",
    response="the libraries to choose from with --library; the chosen one has its own positions and image",
)
@pytest.mark.parametrize("own_positions", [False, True])
def test_aggregate_is_imported_library_by_library(tmp_path: Path, own_positions: bool) -> None:
    captures = {
        name: capture_area(6, 8, seed=i, suffix=f"-{i + 1}", um_per_px=2.0 + i)
        for i, name in enumerate(("young", "old"))
    }
    outs = write_aggregate(tmp_path / "both", captures)
    if own_positions:
        (outs / "aggr_tissue_positions.csv").unlink()
        for name, capture in captures.items():
            capture.positions["barcode"] = capture.positions["barcode"].str.replace(r"-\d$", "-1", regex=True)
            write_positions(outs / "spatial" / name / "tissue_positions.csv", capture)
    with pytest.raises(InputError, match=r"2 libraries.* --library: young, old"):
        import_slide(outs, tmp_path / "out.zarr")
    with pytest.raises(InputError, match=r"no library 'third'.* young, old"):
        import_slide(outs, tmp_path / "out.zarr", library="third")
    for library in ("old", "2"):
        slide = read_slide(import_slide(outs, tmp_path / f"{library}.zarr", library=library))
        np.testing.assert_array_equal(slide.counts.toarray(), captures["old"].expected)
        np.testing.assert_allclose(slide.centers, captures["old"].centers_um)
        assert slide.source.spots == "old"
        assert slide.image is not None


def test_command_line_chooses_bins_and_libraries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bins = [capture_area(5, 5, bin_um=size, um_per_px=0.5) for size in (8, 16)]
    outs = write_visium_hd(tmp_path / "hd", bins, counts=["raw.h5"])
    assert main(["import", str(outs), "-o", str(tmp_path / "8.zarr")]) == 0
    assert main(["import", str(outs), "-o", str(tmp_path / "16.zarr"), "--bin-size", "16"]) == 0
    assert main(["import", str(outs), "-o", str(tmp_path / "4.zarr"), "--bin-size", "4"]) == 2
    capsys.readouterr()
    assert main(["info", str(tmp_path / "8.zarr")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("of 8 um were imported" in line for line in lines) == 1
    assert not any("of 8 um were imported" in line and "in_tissue" in line for line in lines)
    both = {name: capture_area(5, 8, seed=i, suffix=f"-{i + 1}") for i, name in enumerate(("young", "old"))}
    outs = write_aggregate(tmp_path / "both", both)
    assert main(["import", str(outs), "-o", str(tmp_path / "old.zarr"), "--library", "old"]) == 0
    assert main(["import", str(outs), "-o", str(tmp_path / "both.zarr")]) == 2
    assert "--library: young, old" in capsys.readouterr().err


@pytest.mark.contract(
    section="Imports",
    case="files that macOS adds to copied folders (`._name`)",
    response="ignored",
)
def test_notes_of_macos_are_no_files_of_the_slide(tmp_path: Path) -> None:
    outs = write_visium(tmp_path / "run", capture_area(4, 6))
    before = find_files(outs)
    for file in [file for file in outs.rglob("*") if file.is_file()]:
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7")
    assert find_files(outs) == before
