"""Read histology files (.jpg, .png, .tif) as multiscale SpatialData images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_srast._utils.text import first_line
from napari_srast.errors import InputError, is_memory_error
from napari_srast.io.safety_limits import check_image_size

if TYPE_CHECKING:
    from spatialdata.transformations import BaseTransformation
    from xarray import DataTree

__all__ = ["MAX_INTEGER_BYTES", "check_spots_on_image", "multiscale_image", "read_image_file"]

MAX_INTEGER_BYTES = 4
"""Largest size of an integer in an image; viewers and OME-Zarr have no longer ones."""
_CHUNK = 512
_MIN_LEVEL_SIDE = 512  # pixels: levels are halved as long as the shorter side is at least this long


def read_image_file(path: str | Path) -> np.ndarray:
    """Read an image file without applying its EXIF orientation.

    Parameters
    ----------
    path
        The file; ``.tif``, ``.tiff`` and ``.btf`` are read by tifffile, all others by Pillow.

    Returns
    -------
    np.ndarray
        The pixels, shape (c, y, x).

    Raises
    ------
    InputError
        The file is missing, not an image, has an unsupported pixel type, or more than two dimensions and channels.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no image at '{path}'; check the path.")
    try:
        pixels = _read_tiff(path) if path.suffix.casefold() in (".tif", ".tiff", ".btf") else _read_with_pillow(path)
    except InputError:
        raise
    except Exception as error:
        if is_memory_error(error):
            raise
        raise InputError(
            f"'{path}' cannot be read as an image ({first_line(error)}); save it as .jpg, .png or .tif."
        ) from error
    if pixels.dtype.kind not in "biuf" or (pixels.dtype.kind in "iu" and pixels.dtype.itemsize > MAX_INTEGER_BYTES):
        raise InputError(f"'{path}' has pixels of type {pixels.dtype}; save it with 8 or 16 bits.")
    pixels = np.squeeze(pixels)
    if pixels.ndim == 2:
        pixels = pixels[None]
    elif pixels.ndim == 3 and pixels.shape[2] < min(pixels.shape[:2]):
        pixels = np.moveaxis(pixels, 2, 0)
    if pixels.ndim != 3:
        raise InputError(f"'{path}' has {pixels.ndim} dimensions; save it as a two-dimensional image.")
    return np.ascontiguousarray(pixels)


def check_spots_on_image(points: np.ndarray, shape: tuple[int, int], image: Path, advice: str) -> None:
    """Check that most spots are inside an image.

    Parameters
    ----------
    points
        Spot centers (x, y) in pixels of the image, shape (N, 2).
    shape
        Number of rows and columns of the image.
    image
        Path of the image, for the message.
    advice
        The next step if the image is a wrong one, for the message.

    Raises
    ------
    InputError
        Fewer than half of the spots are inside the image.
    """
    inside = np.all((points >= 0) & (points <= shape[::-1]), axis=1)
    if inside.mean() < 0.5:
        raise InputError(
            f"Only {inside.sum()} of {len(points)} spots are inside the image '{image}' "
            f"({shape[1]} x {shape[0]} pixels); {advice}."
        )


def _read_tiff(path: Path) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(path) as file:
        if file.series:
            check_image_size(path, file.series[0].nbytes)
        return np.asarray(file.asarray())


def _read_with_pillow(path: Path) -> np.ndarray:
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # slide images exceed Pillow's limit
    try:
        with Image.open(path) as picture:
            # A color takes four bytes in Pillow, and three in the array that is copied from it.
            bytes_per_pixel = 7 if len(picture.getbands()) >= 3 else 8
            check_image_size(path, picture.width * picture.height * bytes_per_pixel)
            supported = picture.mode in ("L", "RGB", "RGBA") or picture.mode.startswith("I")
            return np.asarray(picture if supported else picture.convert("RGB"))
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def multiscale_image(pixels: Any, transformations: Mapping[str, BaseTransformation]) -> DataTree:
    """Build a chunked multiscale image whose levels halve in size.

    Parameters
    ----------
    pixels
        The pixels, shape (c, y, x).
    transformations
        Transformations by coordinate system.
    """
    from spatialdata.models import Image2DModel

    n_levels = int(np.log2(max(min(pixels.shape[1:]) / _MIN_LEVEL_SIDE, 1)))
    names = {1: ["gray"], 3: ["r", "g", "b"], 4: ["r", "g", "b", "a"]}
    return Image2DModel.parse(
        pixels,
        dims=("c", "y", "x"),
        c_coords=names.get(pixels.shape[0]),
        scale_factors=[2] * max(n_levels, 1),
        chunks=(pixels.shape[0], _CHUNK, _CHUNK),
        transformations=dict(transformations),
    )
