"""TIFF files as scanners and programs write them: several pictures, palettes, inks, inverted gray."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_srast.errors import InputError
from napari_srast.io.convert.images import read_image_file

RNG = np.random.default_rng(0)
COLORS = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
GRAY = RNG.integers(0, 256, (20, 30), dtype=np.uint8)


@pytest.mark.contract(
    section="Imports",
    case="TIFF with a palette, printing inks, or white as 0",
    response="read as the colors that it shows",
)
@pytest.mark.parametrize("kind", ["palette", "inks", "deep inks", "white is zero", "bilevel", "luma"])
def test_stored_values_become_colors(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "he.tif"
    expected = np.moveaxis(COLORS, 2, 0)
    if kind == "palette":
        picture = Image.fromarray(COLORS).quantize(16)
        picture.save(path)
        expected = np.moveaxis(np.asarray(picture.convert("RGB")), 2, 0)
    elif kind in ("inks", "deep inks"):
        factor, dtype = (1, np.uint8) if kind == "inks" else (257, np.uint16)
        inks = np.concatenate([255 - COLORS, np.zeros((20, 30, 1), np.uint8)], axis=2).astype(dtype) * factor
        tifffile.imwrite(path, inks.astype(dtype), photometric="separated")
        expected = expected.astype(dtype) * factor
    elif kind == "luma":
        picture = Image.fromarray(COLORS).convert("YCbCr")
        picture.save(path)
        expected = np.moveaxis(np.asarray(picture.convert("RGB")), 2, 0)
    else:
        stored = GRAY if kind == "white is zero" else GRAY > 100
        tifffile.imwrite(path, stored, photometric="miniswhite")
        expected = (255 - GRAY if kind == "white is zero" else ~stored)[None]
    read = read_image_file(path)
    assert read.dtype == expected.dtype
    np.testing.assert_array_equal(read, expected)


@pytest.mark.contract(
    section="Imports",
    case="slide of a scanner (.svs, .ndpi, pyramid) with label and thumbnail, in any order",
    response="its largest picture is read",
)
@pytest.mark.parametrize("name", ["he.tif", "he.svs", "he.png"])
def test_largest_picture_is_read_whatever_the_ending(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with tifffile.TiffWriter(path) as writer:
        writer.write(COLORS[::4, ::4], photometric="rgb")
        writer.write(COLORS, photometric="rgb")
        writer.write(COLORS[::2, ::2], photometric="rgb")
    np.testing.assert_array_equal(read_image_file(path), np.moveaxis(COLORS, 2, 0))


def test_picture_with_the_ending_of_another_format_is_read(tmp_path: Path) -> None:
    Image.fromarray(COLORS).save(tmp_path / "he.tif", format="PNG")
    np.testing.assert_array_equal(read_image_file(tmp_path / "he.tif"), np.moveaxis(COLORS, 2, 0))


def test_unknown_colors_and_folders_are_refused(tmp_path: Path) -> None:
    Image.fromarray(COLORS).convert("LAB").save(tmp_path / "lab.tif")
    with pytest.raises(InputError, match="colors of the type CIELAB; save it as an RGB image"):
        read_image_file(tmp_path / "lab.tif")
    with pytest.raises(InputError, match="is a folder, not an image; give the"):
        read_image_file(tmp_path)
