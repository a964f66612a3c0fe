"""Values of the command line, and outputs that are refused before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_srast.cli.parsing import check_exists, check_output, parse_genes, parse_numbers, parse_region
from napari_srast.errors import InputError, OutputError, RegionError, SettingsError


def test_genes_are_names_a_file_or_all(tmp_path: Path) -> None:
    (tmp_path / "genes.csv").write_text("gene\nERBB2\n# a comment\nKRT19\n")
    assert parse_genes("ERBB2, KRT19") == parse_genes(f"@{tmp_path / 'genes.csv'}") == ["ERBB2", "KRT19"]
    assert parse_genes(" all ") is None
    with pytest.raises(SettingsError, match="empty name"):
        parse_genes("ERBB2,,KRT19")


def test_file_of_genes_needs_its_mark(tmp_path: Path) -> None:
    file = tmp_path / "genes.txt"
    file.write_text("ERBB2\n")
    with pytest.raises(SettingsError, match=r"is a file, not a gene; write @.*genes\.txt to read"):
        parse_genes(str(file))
    assert parse_genes("ERBB2.txt") == ["ERBB2.txt"]


def test_numbers_are_whole_and_positive() -> None:
    assert parse_numbers("500,1000", "--spots") == (500, 1000)
    for text in ("", "0", "1.5", "a", "2,-1"):
        with pytest.raises(SettingsError, match=r"--spots is .* must be whole numbers above 0"):
            parse_numbers(text, "--spots")


def test_region_is_a_text_or_a_file(tmp_path: Path) -> None:
    square = '{"type": "Polygon", "coordinates": [[[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]]]}'
    (tmp_path / "region.geojson").write_text(square)
    for text in ("POLYGON ((0 0, 2 0, 2 2, 0 2, 0 0))", str(tmp_path / "region.geojson")):
        region = parse_region(text, "global")
        assert (region.geometry.area, region.coordinate_system) == (4, "global")
    with pytest.raises(RegionError, match="cannot be read"):
        parse_region(str(tmp_path / "missing.geojson"), "global")


def test_missing_input_is_named(tmp_path: Path) -> None:
    check_exists(tmp_path, "folder")
    with pytest.raises(InputError, match="There is no slide at"):
        check_exists(tmp_path / ("a" * 5000), "slide")


def test_unusable_outputs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in.zarr").mkdir()
    (tmp_path / "there.csv").touch()
    suffixes, source = (".zarr", ".csv"), (tmp_path / "in.zarr",)
    check_output(tmp_path / "new.csv", suffixes, source)
    for name, reason in {
        "out.txt": "no known ending",
        "there.csv": "exists already",
        "nowhere/out.csv": "does not exist",
        "in.zarr/out.csv": "inside the input",
        f"{'a' * 210}.csv": "too long",
    }.items():
        with pytest.raises(OutputError, match=reason):
            check_output(tmp_path / name, suffixes, source)
