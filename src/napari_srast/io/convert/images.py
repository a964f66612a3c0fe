"""Histology files (.jpg, .png, .tif) -> multiscale SpatialData images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_srast._utils.text import one_line
from napari_srast.errors import InputError, is_memory_error
from napari_srast.io.safety_limits import check_pixels

if TYPE_CHECKING:
    from spatialdata.transformations import BaseTransformation
    from xarray import DataTree

__all__ = ["check_on_image", "multiscale_image", "read_picture"]

_CHUNK = 512
_WIDEST = 4  # bytes of a whole number: viewers and OME-Zarr know no longer ones
_SMALLEST_LEVEL = 512  # pixels: levels are halved until the shorter side would fall below


def read_picture(path: str | Path) -> np.ndarray:
    """Read an image file as stored (no turning by EXIF), shape (c, y, x); 8 or 16 bits, any number of channels.

    Raises
    ------
    InputError
        The file is missing, not an image, or has more than two dimensions beside its channels.
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
            f"'{path}' cannot be read as an image ({one_line(error)}); save it as .jpg, .png or .tif."
        ) from error
    if pixels.dtype.kind not in "biuf" or (pixels.dtype.kind in "iu" and pixels.dtype.itemsize > _WIDEST):
        raise InputError(f"'{path}' holds pixels of type {pixels.dtype}; save it with 8 or 16 bits.")
    pixels = np.squeeze(pixels)
    if pixels.ndim == 2:
        pixels = pixels[None]
    elif pixels.ndim == 3 and pixels.shape[2] < min(pixels.shape[:2]):
        pixels = np.moveaxis(pixels, 2, 0)
    if pixels.ndim != 3:
        raise InputError(f"'{path}' has {pixels.ndim} dimensions; save it as a flat image.")
    return np.ascontiguousarray(pixels)


def check_on_image(points: np.ndarray, shape: tuple[int, int], image: Path, advice: str) -> None:
    """Check that most spots lie on an image.

    Parameters
    ----------
    points
        Spot centers in pixels of the image, (x, y), shape (N, 2).
    shape
        Rows and columns of the image.
    image, advice
        Its path, and what to do where it is another one, for the sentence.

    Raises
    ------
    InputError
        Less than half of the spots lie on it.
    """
    inside = np.all((points >= 0) & (points <= shape[::-1]), axis=1)
    if inside.mean() < 0.5:
        raise InputError(
            f"Only {inside.sum()} of {len(points)} spots lie on the image '{image}' ({shape[1]} x {shape[0]} pixels); "
            f"{advice}."
        )


def _read_tiff(path: Path) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(path) as file:
        if file.series:
            check_pixels(path, file.series[0].nbytes)
        return np.asarray(file.asarray())


def _read_with_pillow(path: Path) -> np.ndarray:
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # whole slides are larger than what pillow trusts
    try:
        with Image.open(path) as picture:
            # Colors take four bytes within pillow and three in the array that is copied from it.
            of_pixel = 7 if len(picture.getbands()) >= 3 else 8
            check_pixels(path, picture.width * picture.height * of_pixel)
            plain = picture if picture.mode in ("L", "RGB", "RGBA") or picture.mode.startswith("I") else None
            return np.asarray(plain or picture.convert("RGB"))
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def multiscale_image(pixels: Any, transformations: Mapping[str, BaseTransformation]) -> DataTree:
    """Return (c, y, x) pixels as a chunked multiscale element, whose levels halve in size."""
    from spatialdata.models import Image2DModel

    n_levels = int(np.log2(max(min(pixels.shape[1:]) / _SMALLEST_LEVEL, 1)))
    names = {1: ["gray"], 3: ["r", "g", "b"], 4: ["r", "g", "b", "a"]}
    return Image2DModel.parse(
        pixels,
        dims=("c", "y", "x"),
        c_coords=names.get(pixels.shape[0]),
        scale_factors=[2] * max(n_levels, 1),
        chunks=(pixels.shape[0], _CHUNK, _CHUNK),
        transformations=dict(transformations),
    )
