"""Read histology files (.jpg, .png, .tif) as multiscale SpatialData images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_srast._utils.text import first_line
from napari_srast.errors import InputError, is_memory_error
from napari_srast.io.convert.tiff_images import is_tiff, on_white, read_tiff, tiff_channels
from napari_srast.io.safety_limits import check_image_size

if TYPE_CHECKING:
    from PIL.Image import Image
    from spatialdata.transformations import BaseTransformation
    from xarray import DataTree

__all__ = [
    "MAX_INTEGER_BYTES",
    "check_spots_on_image",
    "full_sizes",
    "image_channels",
    "is_size",
    "multiscale_image",
    "orientation_notice",
    "read_image_file",
    "scale_contradiction",
]

MAX_INTEGER_BYTES = 4
"""Largest size of an integer in an image; viewers and OME-Zarr have no longer ones."""
_MIN_INSIDE = 0.5  # of the spots, on the image
_ORIENTATION_TAG = 274  # of EXIF and TIFF
_MAX_CONTRADICTION = 0.03  # of two statements of one length, relative
_CHUNK = 512
_MIN_LEVEL_SIDE = 512  # pixels: levels are halved as long as the shorter side is at least this long


def read_image_file(path: str | Path) -> np.ndarray:
    """Read an image file without applying its EXIF orientation.

    Parameters
    ----------
    path
        The file; those with the content of a TIFF file are read by tifffile, all others by Pillow.

    Returns
    -------
    np.ndarray
        The pixels, shape (c, y, x). Colors with opacity are those on a white ground, as microscopes see them.

    Raises
    ------
    InputError
        The file is missing, not an image, has an unsupported pixel type, or more than two dimensions and channels.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"'{path}' is a folder, not an image; give the .jpg, .png or .tif file.")
    if not path.is_file():
        raise InputError(f"There is no image at '{path}'; check the path.")
    try:
        pixels = read_tiff(path) if is_tiff(path) else _read_with_pillow(path)
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


def image_channels(path: str | Path) -> tuple[str, ...]:
    """Return the names of the channels of an image file; none if they are colors, gray or unknown.

    Parameters
    ----------
    path
        A file that :func:`read_image_file` has read.
    """
    return tiff_channels(Path(path)) if is_tiff(Path(path)) else ()


def orientation_notice(path: str | Path) -> tuple[str, ...]:
    """Return a notice if an image file asks programs to turn or mirror it, because its pixels are used as stored.

    Parameters
    ----------
    path
        A file that :func:`read_image_file` has read.
    """
    try:
        with _opened(Path(path)) as picture:
            orientation = int(picture.getexif().get(_ORIENTATION_TAG, 1))
    except (OSError, ValueError, SyntaxError):  # a format that Pillow does not know has no such tag
        return ()
    if not 2 <= orientation <= 8:
        return ()
    return (
        f"The image '{Path(path).name}' states that it is shown turned or mirrored (orientation {orientation}); its "
        "pixels were used as they are stored, so check that the spots are on the tissue.",
    )


def check_spots_on_image(points: np.ndarray, shape: tuple[int, int], image: Path, advice: str) -> None:
    """Check that most spots are inside an image; reading the slide names those that are not.

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
    if inside.mean() < _MIN_INSIDE:
        raise InputError(
            f"Only {inside.sum()} of {len(points)} spots are inside the image '{image}' "
            f"({shape[1]} x {shape[0]} pixels); {advice}."
        )


def full_sizes(shapes: Mapping[str, tuple[int, ...]], scales: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Return the size of the full-resolution image, rows and columns, by each smaller image and its scale.

    Parameters
    ----------
    shapes
        Numbers of rows and columns of the smaller images, by name.
    scales
        Their pixels per full-resolution pixel, by name; any may be missing.
    """
    return {name: (shapes[name][0] / scales[name], shapes[name][1] / scales[name]) for name in shapes if name in scales}


def is_size(size: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Return whether two statements of the size of an image agree, except for rounding."""
    return all(abs(one / two - 1) < _MAX_CONTRADICTION for one, two in zip(size, other, strict=True))


def scale_contradiction(sizes: Mapping[str, tuple[float, float]]) -> str | None:
    """Return why the scales of the images of one slide cannot all be right, as a clause; None if they can be.

    Parameters
    ----------
    sizes
        Size of the full-resolution image by each of them, from :func:`full_sizes`.
    """
    if not sizes or all(is_size(one, other) for one in sizes.values() for other in sizes.values()):
        return None
    stated = " and ".join(f"{columns:.0f} x {rows:.0f} pixels by '{name}'" for name, (rows, columns) in sizes.items())
    return f"the full-resolution image has {stated}, so a scale factor or an image is of another slide"


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """Open an image with Pillow, without the limit of its size, which slide images exceed."""
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as picture:
            yield picture
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _read_with_pillow(path: Path) -> np.ndarray:
    with _opened(path) as picture:
        has_opacity = picture.mode in ("RGBA", "LA", "PA") or (
            "transparency" in picture.info and not picture.mode.startswith("I")
        )
        # A color takes four bytes in Pillow, and three in the array that is copied from it.
        bytes_per_pixel = 11 if has_opacity else 7 if len(picture.getbands()) >= 3 else 8
        check_image_size(path, picture.width * picture.height * bytes_per_pixel)
        if has_opacity:
            return on_white(np.asarray(picture if picture.mode == "RGBA" else picture.convert("RGBA")))
        supported = picture.mode in ("L", "RGB") or picture.mode.startswith("I")
        return np.asarray(picture if supported else picture.convert("RGB"))


def multiscale_image(
    pixels: Any, transformations: Mapping[str, BaseTransformation], channels: Sequence[str] = ()
) -> DataTree:
    """Build a chunked multiscale image whose levels halve in size.

    Parameters
    ----------
    pixels
        The pixels, shape (c, y, x).
    transformations
        Transformations by coordinate system.
    channels
        Names of the channels; none for colors or gray.
    """
    from spatialdata.models import Image2DModel

    n_levels = int(np.log2(max(min(pixels.shape[1:]) / _MIN_LEVEL_SIDE, 1)))
    names = {1: ["gray"], 3: ["r", "g", "b"], 4: ["r", "g", "b", "a"]}
    return Image2DModel.parse(
        pixels,
        dims=("c", "y", "x"),
        c_coords=list(channels) or names.get(pixels.shape[0]),
        scale_factors=[2] * max(n_levels, 1),
        chunks=(pixels.shape[0], _CHUNK, _CHUNK),
        transformations=dict(transformations),
    )
