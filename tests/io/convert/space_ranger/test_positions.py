"""Positions of the spots in every form in which they are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.space_ranger import COLUMNS, capture_area

from napari_srast.errors import InputError
from napari_srast.io.convert.space_ranger.positions import match_barcodes, read_positions


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tissue_positions.parquet", {}),
        ("tissue_positions.csv", {"index": False}),
        ("tissue_positions.csv.gz", {"index": False}),
        ("tissue_positions_list.csv", {"index": False, "header": False}),
        ("tissue_positions_list.csv", {"index": False}),  # with a header nevertheless
        ("tissue_positions_list.txt", {"index": False, "sep": "\t"}),
        ("tissue_positions.csv", {"index": False, "sep": ";", "decimal": ","}),  # saved by a spreadsheet program
        ("tissue_positions_list.csv", {"index": False, "header": False, "sep": ";", "decimal": ","}),
        ("tissue_positions.csv", {"index": True}),  # with numbers of rows
        ("tissue_positions.csv", {"index": True, "index_label": ""}),
    ],
)
def test_positions_of_every_version_are_read(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    table = capture_area(4, 6).positions
    if options.get("index_label") == "":
        table = table.set_index("barcode")
    if name.endswith(".parquet"):
        table.to_parquet(tmp_path / name)
    else:
        table.to_csv(tmp_path / name, **options)  # type: ignore[call-overload]
    found = read_positions(tmp_path / name)
    expected = capture_area(4, 6)
    assert list(found.barcodes) == list(expected.barcodes)
    np.testing.assert_array_equal(found.in_tissue, expected.tissue)
    np.testing.assert_allclose(found.pixels, expected.positions[COLUMNS[:3:-1]])
    np.testing.assert_array_equal(found.array, expected.positions[["array_col", "array_row"]])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
def test_positions_are_read_in_any_encoding_with_spaces_and_line_ends(tmp_path: Path, encoding: str, end: str) -> None:
    capture = capture_area(4, 6)
    text = capture.positions.to_csv(index=False).replace(",", " , ").replace("\n", end)
    path = tmp_path / "tissue_positions.csv"
    path.write_bytes(text.encode(encoding))
    found = read_positions(path)
    assert list(found.barcodes) == list(capture.barcodes)
    np.testing.assert_allclose(found.pixels, capture.positions[COLUMNS[:3:-1]])


@pytest.mark.parametrize("name", ["S1_{}", "{}-1_S1", "S1#{}-1"])
def test_names_of_samples_around_barcodes_are_ignored(tmp_path: Path, name: str) -> None:
    capture = capture_area(4, 6)
    capture.positions.to_csv(tmp_path / "tissue_positions.csv", index=False)
    positions = read_positions(tmp_path / "tissue_positions.csv")
    bare = [barcode.removesuffix("-1") for barcode in capture.barcodes[::-1]]
    index = match_barcodes(np.array([name.format(word) for word in bare], dtype=object), positions)
    np.testing.assert_array_equal(index, np.arange(len(bare))[::-1])
    small = np.array([word.lower() for word in bare], dtype=object)
    np.testing.assert_array_equal(match_barcodes(small, positions), index)
    both = np.array(["S1_" + bare[0], "S2_" + bare[0]], dtype=object)
    assert (match_barcodes(both, positions) == -1).all()  # of two samples


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("A-1,1,0,0\n", r"4 columns without a header instead of 6"),
        ("barcode,in_tissue\nA-1,1\n", "lack the columns array_row"),
        ("A-1,1,0,0,1,1\nA-1,1,0,2,9,9\n", r"several positions of 1 barcodes \(such as A-1\)"),
    ],
)
def test_damaged_positions_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "tissue_positions_list.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_positions(tmp_path / "tissue_positions_list.csv")


def test_numbers_of_libraries_are_not_ignored_where_they_tell_barcodes_apart(tmp_path: Path) -> None:
    (tmp_path / "tissue_positions_list.csv").write_text("A-1,1,0,0,1,1\nA-2,1,0,2,9,9\n")
    positions = read_positions(tmp_path / "tissue_positions_list.csv")
    assert match_barcodes(np.array(["A-2", "B-2"], dtype=object), positions).tolist() == [1, -1]
    assert match_barcodes(np.array(["A"], dtype=object), positions).tolist() == [-1]


def test_positions_that_declare_more_than_the_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture_area(4, 6).positions.to_parquet(tmp_path / "tissue_positions.parquet")
    monkeypatch.setattr("napari_srast.io.convert.space_ranger.positions.memory_limit", lambda: 1000)
    with pytest.raises(InputError, match="more than the memory"):
        read_positions(tmp_path / "tissue_positions.parquet")
