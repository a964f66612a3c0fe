"""Read TIFF files as colors or intensities that grow with light, whatever the file stores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_srast.errors import InputError
from napari_srast.io.safety_limits import check_image_size

if TYPE_CHECKING:
    import tifffile

__all__ = ["is_tiff", "on_white", "read_tiff", "tiff_channels"]

_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")  # also of .svs, .ndpi, .scn, .btf and .qptiff
_DECODED_BY_READER = (6, 7, 33003, 33004, 33005, 34712)  # compressions (JPEG, JPEG 2000) that are decoded to RGB
_WHITE_IS_ZERO, _COLORS, _PALETTE, _INKS, _LUMA = 0, 2, 3, 5, 6  # PhotometricInterpretation
_LAB = (8, 9, 10)
_PREMULTIPLIED = 1  # of ExtraSamples: colors are multiplied by their opacity
_N_COLORS = 3
_ROWS_AT_ONCE = 1024
_WORD = 256  # values of palettes have 16 bits; some programs write 8


def is_tiff(path: Path) -> bool:
    """Return whether a file begins as TIFF or BigTIFF files do, whatever its ending."""
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


def read_tiff(path: Path) -> np.ndarray:
    """Read the largest picture of a TIFF file at full resolution.

    Slide scanners store a label, a thumbnail and an overview next to the slide, in any order.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    np.ndarray
        The pixels in the order of their axes in the file. Palettes, inks and inverted gray become RGB or gray.

    Raises
    ------
    InputError
        The file declares more pixels than fit in memory, or colors that cannot be converted.
    ValueError
        The file is damaged.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        if not file.series:
            raise ValueError("it has no picture")
        series = max(file.series, key=_area)
        n_planes = _size(series, without="YXCSQI")
        if n_planes > 1 and not _may_be_colors(series):
            raise InputError(f"'{path}' is a stack of {n_planes} pictures; save one picture, such as their maximum.")
        check_image_size(path, series.nbytes)
        return _as_light(np.asarray(series.asarray()), series, path)


def tiff_channels(path: Path) -> tuple[str, ...]:
    """Return the names of the channels of a TIFF file; none if they are colors, gray or unknown.

    The channels of fluorescence images are stored one after another, those of colors together in each pixel.

    Parameters
    ----------
    path
        A file that :func:`read_tiff` has read.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        number = max(range(len(file.series)), key=lambda i: _area(file.series[i]))
        series = file.series[number]
        n_channels = _size(series, without="YX")
        names = _ome_names(file.ome_metadata, number) if file.ome_metadata else []
        if n_channels == 1 or "S" in series.axes or (not names and _may_be_colors(series)):
            return ()
    given = len(names) == len(set(names)) == n_channels
    return tuple(names) if given else tuple(f"channel {i + 1}" for i in range(n_channels))


def _ome_names(metadata: str, number: int) -> list[str]:
    """Return the names of the channels of a picture in the metadata of OME-TIFF; empty if they cannot be read."""
    import tifffile

    try:
        pictures: Any = tifffile.xml2dict(metadata)["OME"]["Image"]
        picture = pictures[number] if isinstance(pictures, list) else pictures
        channels = picture["Pixels"]["Channel"]
        names = [str(channel.get("Name", "")).strip() for channel in channels] if isinstance(channels, list) else []
    except Exception:  # noqa: BLE001 - the parser states no error; the pixels do not need the names
        return []
    return names if all(names) else []


def _area(series: tifffile.TiffPageSeries) -> int:
    """Return the number of pixels of a picture."""
    return _size(series) // max(_size(series, without="YX"), 1)


def _size(series: tifffile.TiffPageSeries, without: str = "") -> int:
    """Return the product of the lengths of all axes but some."""
    return math.prod(n for n, axis in zip(series.shape, series.axes, strict=False) if axis not in without)


def _may_be_colors(series: tifffile.TiffPageSeries) -> bool:
    """Return whether planes may be the colors of one picture: three of 8 bits are so more often than three stains."""
    return bool(_size(series, without="YX") == _N_COLORS and series.dtype == np.uint8)


def _as_light(pixels: np.ndarray, series: tifffile.TiffPageSeries, path: Path) -> np.ndarray:
    """Convert stored values to RGB, or to gray where white is the highest value."""
    page = series.keyframe
    kind = int(page.photometric)
    if kind == _WHITE_IS_ZERO and pixels.dtype.kind == "b":
        return ~pixels
    if kind == _WHITE_IS_ZERO and pixels.dtype.kind == "u":
        return np.asarray(2 ** min(int(page.bitspersample), 8 * pixels.dtype.itemsize) - 1 - pixels).astype(
            pixels.dtype
        )
    if kind == _PALETTE and page.colormap is not None:
        colors = np.asarray(page.colormap)
        colors = colors // _WORD if colors.max(initial=0) >= _WORD else colors
        return colors.T.astype(np.uint8)[pixels]
    channels = series.axes.find("S")
    if kind == _COLORS and channels >= 0 and pixels.shape[channels] == _N_COLORS + 1:
        is_premultiplied = tuple(map(int, page.extrasamples)) == (_PREMULTIPLIED,)
        return on_white(np.moveaxis(pixels, channels, -1), is_premultiplied=is_premultiplied)
    if kind == _INKS and channels >= 0 and pixels.shape[channels] == 4:
        return _from_inks(np.moveaxis(pixels, channels, -1))
    if kind == _LUMA and channels >= 0 and int(page.compression) not in _DECODED_BY_READER:
        return _from_luma(np.moveaxis(pixels, channels, -1), path)
    if kind in _LAB:
        raise InputError(f"'{path}' has colors of the type CIELAB; save it as an RGB image.")
    return pixels


def on_white(colors: np.ndarray, *, is_premultiplied: bool = False) -> np.ndarray:
    """Return colors with opacity (..., y, x, 4) as they look on a white ground, (..., y, x, 3), of the same type.

    Parameters
    ----------
    colors
        Red, green, blue and opacity, unsigned integers or fractions of 1.
    is_premultiplied
        Whether the colors are multiplied by their opacity already.
    """
    top = float(np.iinfo(colors.dtype).max) if colors.dtype.kind in "iu" else 1.0
    opacity, seen = colors[..., _N_COLORS:], colors[..., :_N_COLORS]
    if opacity.min() == opacity.max():  # it shows nothing; some programs write 0
        return np.ascontiguousarray(seen)
    seen = seen.copy()
    for start in range(0, seen.shape[-3], _ROWS_AT_ONCE):
        rows = (..., slice(start, start + _ROWS_AT_ONCE), slice(None), slice(None))
        part = opacity[rows] / top
        light = seen[rows] * (1.0 if is_premultiplied else part) + top * (1 - part)
        seen[rows] = np.minimum(np.rint(light) if colors.dtype.kind in "iu" else light, top)
    return seen


def _from_inks(inks: np.ndarray) -> np.ndarray:
    """Convert cyan, magenta, yellow and black (y, x, 4) to RGB (y, x, 3) of the same type."""
    top = np.iinfo(inks.dtype).max
    light = top - inks.astype(np.uint32)
    return np.asarray(light[..., :3] * light[..., 3:] // top).astype(inks.dtype)


def _from_luma(pixels: Any, path: Path) -> np.ndarray:
    """Convert luma and two color differences (y, x, 3) of 8 bits to RGB."""
    if pixels.dtype != np.uint8 or pixels.shape[-1] != 3:
        raise InputError(f"'{path}' has colors of the type YCbCr with {pixels.dtype} values; save it as an RGB image.")
    from PIL import Image

    return np.asarray(Image.fromarray(pixels, mode="YCbCr").convert("RGB"))
