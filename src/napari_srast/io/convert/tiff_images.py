"""Read TIFF files as colors or intensities that grow with light, whatever the file stores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_srast.errors import InputError
from napari_srast.io.safety_limits import check_image_size

if TYPE_CHECKING:
    import tifffile

__all__ = ["is_tiff", "read_tiff"]

_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")  # also of .svs, .ndpi, .scn, .btf and .qptiff
_DECODED_BY_READER = (6, 7, 33003, 33004, 33005, 34712)  # compressions (JPEG, JPEG 2000) that are decoded to RGB
_WHITE_IS_ZERO, _PALETTE, _INKS, _LUMA = 0, 3, 5, 6  # PhotometricInterpretation
_LAB = (8, 9, 10)
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
        check_image_size(path, series.nbytes)
        return _as_light(np.asarray(series.asarray()), series, path)


def _area(series: tifffile.TiffPageSeries) -> int:
    """Return the number of pixels of a picture."""
    return int(np.prod([n for n, axis in zip(series.shape, series.axes, strict=False) if axis in "YX"]))


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
    if kind == _INKS and channels >= 0 and pixels.shape[channels] == 4:
        return _from_inks(np.moveaxis(pixels, channels, -1))
    if kind == _LUMA and channels >= 0 and int(page.compression) not in _DECODED_BY_READER:
        return _from_luma(np.moveaxis(pixels, channels, -1), path)
    if kind in _LAB:
        raise InputError(f"'{path}' has colors of the type CIELAB; save it as an RGB image.")
    return pixels


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
