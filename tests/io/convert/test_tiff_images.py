"""TIFF files as scanners and programs write them: several pictures, palettes, inks, inverted gray."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_srast.errors import InputError
from napari_srast.io.convert.images import image_channels, read_image_file

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


@pytest.mark.contract(
    section="Imports",
    case="image with transparent parts",
    response="read as on white paper",
)
@pytest.mark.parametrize("kind", ["png", "palette", "tiff", "premultiplied"])
def test_transparent_parts_are_white(tmp_path: Path, kind: str) -> None:
    opacity = np.full((20, 30, 1), 255, np.uint8)
    opacity[:5] = 0
    opacity[5] = 51
    path = tmp_path / ("he.tif" if kind in ("tiff", "premultiplied") else "he.png")
    colors = COLORS
    if kind == "palette":
        picture = Image.fromarray(np.where(opacity < 255, 0, COLORS).astype(np.uint8)).quantize(16)
        picture.save(path, transparency=int(np.asarray(picture)[0, 0]))
        assert (read_image_file(path)[:, :5] == 255).all()
        return
    if kind == "premultiplied":
        stored = np.rint(COLORS * (opacity / 255)).astype(np.uint8)
        tifffile.imwrite(
            path, np.concatenate([stored, opacity], axis=2), photometric="rgb", extrasamples=["assocalpha"]
        )
    elif kind == "tiff":
        tifffile.imwrite(
            path, np.concatenate([colors, opacity], axis=2), photometric="rgb", extrasamples=["unassalpha"]
        )
    else:
        Image.fromarray(np.concatenate([colors, opacity], axis=2)).save(path)
    expected = colors * (opacity / 255) + 255.0 - opacity
    np.testing.assert_allclose(read_image_file(path), np.moveaxis(expected, 2, 0), atol=1)
    assert image_channels(path) == ()


def test_uniform_opacity_is_ignored(tmp_path: Path) -> None:
    Image.fromarray(np.concatenate([COLORS, np.zeros((20, 30, 1), np.uint8)], axis=2)).save(tmp_path / "he.png")
    np.testing.assert_array_equal(read_image_file(tmp_path / "he.png"), np.moveaxis(COLORS, 2, 0))


@pytest.mark.contract(
    section="Imports",
    case="fluorescence image of three or four channels",
    response="read as channels with their names, not as colors",
)
@pytest.mark.parametrize(
    ("shape", "dtype", "names", "expected"),
    [
        ((4, 20, 30), np.uint16, ["DAPI", "CD45", "PanCK", "CD3"], ("DAPI", "CD45", "PanCK", "CD3")),
        ((3, 20, 30), np.uint8, ["DAPI", "CD45", "PanCK"], ("DAPI", "CD45", "PanCK")),
        ((4, 20, 30), np.uint8, None, ("channel 1", "channel 2", "channel 3", "channel 4")),
        ((3, 20, 30), np.uint16, ["DAPI", "DAPI", "CD3"], ("channel 1", "channel 2", "channel 3")),
        ((3, 20, 30), np.uint8, None, ()),
        ((20, 30), np.uint16, None, ()),
    ],
)
def test_stains_are_no_colors(
    tmp_path: Path, shape: tuple[int, ...], dtype: type, names: list[str] | None, expected: tuple[str, ...]
) -> None:
    axes = "CYX"[-len(shape) :]
    metadata = {"axes": axes, **({"Channel": {"Name": names}} if names else {})}
    pixels = RNG.integers(0, 200, shape).astype(dtype)
    tifffile.imwrite(tmp_path / "if.ome.tif", pixels, photometric="minisblack", metadata=metadata)
    assert image_channels(tmp_path / "if.ome.tif") == expected
    np.testing.assert_array_equal(read_image_file(tmp_path / "if.ome.tif"), pixels.reshape(-1, 20, 30))


def test_stack_of_planes_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "z.ome.tif", np.zeros((5, 20, 30), np.uint16), metadata={"axes": "ZYX"})
    with pytest.raises(InputError, match="a stack of 5 pictures; save one picture, such as their maximum"):
        read_image_file(tmp_path / "z.ome.tif")
