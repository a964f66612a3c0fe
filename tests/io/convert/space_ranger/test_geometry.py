"""The platform and the scale of an array follow from its coordinates, and contradictions are refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers.space_ranger import COLUMNS, Capture, capture_area

from napari_srast.errors import InputError
from napari_srast.io.convert.space_ranger.geometry import array_geometry
from napari_srast.io.convert.space_ranger.positions import Positions


def positions(capture: Capture) -> Positions:
    return Positions(
        barcodes=capture.barcodes,
        in_tissue=capture.tissue,
        array=capture.positions[["array_col", "array_row"]].to_numpy(dtype=float),
        pixels=capture.positions[COLUMNS[:3:-1]].to_numpy(dtype=float),
    )


@pytest.mark.parametrize("flip", [1, -1])
def test_visium_is_recognized_in_any_orientation(flip: int) -> None:
    found = positions(capture_area(um_per_px=0.4, angle=2.1))
    found = dataclasses.replace(found, pixels=np.rint(found.pixels) * [flip, 1])
    geometry = array_geometry(found, {}, folder_bin=None, bin_size=None)
    assert geometry.kind == "visium"
    assert geometry.um_per_px == pytest.approx(0.4, rel=1e-3)


def test_unknown_array_stays_in_pixels() -> None:
    found = positions(capture_area())
    same = dataclasses.replace(found, array=np.zeros_like(found.array))
    geometry = array_geometry(same, {}, folder_bin=None, bin_size=None)
    assert (geometry.kind, geometry.um_per_px) == ("unknown", None)
    assert "platform is unknown" in geometry.notices[0]


def test_separate_spots_on_a_square_lattice_are_no_bins() -> None:
    capture = capture_area(5, 5, bin_um=200)
    capture.positions["barcode"] = [f"spot{i}" for i in range(25)]
    geometry = array_geometry(positions(capture), {"spot_diameter_fullres": 40.0}, folder_bin=None, bin_size=None)
    assert geometry.kind == "unknown"


@pytest.mark.contract(
    section="Imports",
    case="bin size or size of a pixel stated twice with different values",
    response="names both statements; put together the files of one slide",
)
@pytest.mark.parametrize(
    ("bin_um", "factors", "folder_bin", "message"),
    [
        (8, {"bin_size_um": 16.0}, None, "16 um by the file of scale factors, 8 um by the names of the barcodes"),
        (8, {}, 2, "8 um by the names of the barcodes, 2 um by the name of the folder"),
        (8, {"microns_per_pixel": 1.0}, None, r"1 um per pixel, but the positions and bins of 8 um give 0\.5"),
        (None, {"microns_per_pixel": 1.0}, None, r"the array of Visium give 0\.5"),
        (None, {"bin_size_um": 8.0}, None, "form the array of Visium"),
    ],
)
def test_contradictions_are_refused(
    bin_um: int | None, factors: dict[str, float], folder_bin: int | None, message: str
) -> None:
    found = positions(capture_area(6, 8, bin_um=bin_um, um_per_px=0.5))
    with pytest.raises(InputError, match=message):
        array_geometry(found, factors, folder_bin=folder_bin, bin_size=None)
