"""Place the images of a table: those in ``uns["spatial"]``, and a file that the user gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_srast.errors import InputError
from napari_srast.geometry.affine import apply_affine
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.io.convert.images import (
    MAX_INTEGER_BYTES,
    check_spots_on_image,
    multiscale_image,
    read_image_file,
)
from napari_srast.io.convert.stated_positions import coordinates
from napari_srast.io.spots import is_valid_length
from napari_srast.io.store import element_name
from napari_srast.io.transforms import fit_affine, to_affine

if TYPE_CHECKING:
    import anndata

__all__ = ["TableImages", "scale_factors", "stored_images", "user_image"]

_RESOLUTIONS = ("hires", "lowres")
_MAX_MISFIT = 1.0  # of the spots on the image, in pitches
_NOTABLE_MISFIT = 0.25  # in pitches


@dataclass(frozen=True, eq=False)
class TableImages:
    """Images of a table.

    Parameters
    ----------
    elements
        Image elements by name.
    systems
        For each coordinate system of their pixels the (3, 3) matrix from the spots to it.
    notices
        What could not be placed, one sentence each.
    """

    elements: dict[str, Any]
    systems: dict[str, np.ndarray]
    notices: tuple[str, ...] = ()


def scale_factors(library: Mapping[str, Any]) -> dict[str, float]:
    """Return the scale factors of an entry of ``uns["spatial"]`` that are lengths."""
    factors = library.get("scalefactors", {})
    lengths = {}
    for key, value in factors.items() if isinstance(factors, Mapping) else ():
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        if is_valid_length(number):
            lengths[str(key)] = number
    return lengths


def stored_images(
    name: str, library: Mapping[str, Any], factors: Mapping[str, float], points: np.ndarray, scale: float
) -> TableImages:
    """Return the images in an entry of ``uns["spatial"]``.

    Parameters
    ----------
    name
        Name of the entry.
    library
        Its content.
    factors
        Its scale factors: pixels of an image per unit of ``points``.
    points
        Positions (x, y) in the table, shape (N, 2).
    scale
        Length of one unit of ``points`` in the unit of the spots.
    """
    elements, systems, notices = {}, {}, []
    pictures = library.get("images", {})
    for resolution in _RESOLUTIONS if isinstance(pictures, Mapping) else ():
        if resolution not in pictures:
            continue
        pixels = _channels_first(pictures[resolution])
        zoom = factors.get(f"tissue_{resolution}_scalef")
        if pixels is None or zoom is None:
            what = "is not an image" if pixels is None else f"has no scale factor 'tissue_{resolution}_scalef'"
            notices.append(f"Image '{resolution}' in uns['spatial']['{name}'] {what} and was left out.")
            continue
        try:
            check_spots_on_image(points * zoom, pixels.shape[1:], Path(resolution), "check its scale factor")
        except InputError:
            notices.append(
                f"Most spots are outside of image '{resolution}' in uns['spatial']['{name}'] by its scale factor, "
                f"{zoom:.4g}, so it was left out."
            )
            continue
        title = element_name(f"{name}_{resolution}_image")
        system = element_name(f"{name}_downscaled_{resolution}")
        to_spots = np.diag([scale / zoom, scale / zoom, 1.0])
        systems[system] = np.linalg.inv(to_spots)
        elements[title] = multiscale_image(pixels, {"global": to_affine(to_spots), system: to_affine(np.eye(3))})
    return TableImages(elements, systems, tuple(notices))


def user_image(
    path: str | Path,
    table: anndata.AnnData,
    points: np.ndarray,
    *,
    library: Mapping[str, Any],
    pixel_size: float | None,
    scale: float,
    taken: tuple[str, ...],
) -> TableImages:
    """Read an image file, and place it by ``obsm["spatial_px"]``, by its pixel size or by the scale factors.

    Parameters
    ----------
    path
        The file.
    table
        The table.
    points
        Positions (x, y) in the table, shape (N, 2).
    library
        Entry of ``uns["spatial"]`` for the slide; empty if there is none.
    pixel_size
        Side of a pixel in units of ``points``; None if it is unknown.
    scale
        Length of one unit of ``points`` in the unit of the spots.
    taken
        Names that the image must not have.

    Raises
    ------
    InputError
        The image cannot be read or placed.
    """
    pixels = read_image_file(path)
    to_points, notices = _image_affine(table, points, pixels.shape[1:], library, pixel_size)
    check_spots_on_image(
        apply_affine(np.linalg.inv(to_points), points),
        pixels.shape[1:],
        Path(path),
        "give the image that obsm['spatial_px'] refers to, or another pixel size",
    )
    to_spots = np.diag([scale, scale, 1.0]) @ to_points
    name = element_name(Path(path).stem)
    name = f"{name}_image" if name.casefold() in taken else name
    system = f"{name}_px"
    element = multiscale_image(pixels, {"global": to_affine(to_spots), system: to_affine(np.eye(3))})
    return TableImages({name: element}, {system: np.linalg.inv(to_spots)}, notices)


def _channels_first(picture: Any) -> np.ndarray | None:
    """Return an image (y, x) or (y, x, c) as pixels (c, y, x) of a type that viewers show; None if it is not one."""
    try:
        pixels = np.asarray(picture)
    except (TypeError, ValueError):
        return None
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or pixels.dtype.kind not in "uif" or 0 in pixels.shape:
        return None
    if pixels.dtype.kind == "f":  # Matplotlib reads .png files as fractions of 1
        top = 255.0 if np.nanmax(pixels) <= 1 else 1.0
        pixels = np.clip(np.rint(np.nan_to_num(pixels) * top), 0, 255).astype(np.uint8)
    elif pixels.dtype.itemsize > MAX_INTEGER_BYTES:  # a list of Python integers becomes int64
        small = np.uint8 if pixels.max() <= np.iinfo(np.uint8).max else np.uint16
        pixels = np.clip(pixels, 0, np.iinfo(small).max).astype(small)
    return np.ascontiguousarray(np.moveaxis(pixels, 2, 0))


def _image_affine(
    table: anndata.AnnData,
    points: np.ndarray,
    size: tuple[int, ...],
    library: Mapping[str, Any],
    pixel_size: float | None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the (3, 3) matrix from image pixels to the positions in the table, and notices."""
    if "spatial_px" not in table.obsm:
        if pixel_size is None:
            pixel_size = _known_pixel_size(size, library)
        if pixel_size is None:
            raise InputError(
                "The table does not contain the positions of its spots on the image; add obsm['spatial_px'] (the spots "
                "in image pixels), or give --pixel-size if both have the same origin."
            )
        return np.diag([pixel_size, pixel_size, 1.0]), ()
    matrix, misfit = fit_affine(coordinates(table, "spatial_px", "the table")[:, :2], points)
    misfit_in_pitches = misfit / detect_lattice(points).pitch
    if misfit_in_pitches > _MAX_MISFIT:
        raise InputError(
            f"obsm['spatial_px'] fits obsm['spatial'] only to {misfit_in_pitches:.2g} pitches; "
            "check that both list the same spots in the same order, as (x, y)."
        )
    if misfit_in_pitches > _NOTABLE_MISFIT:
        return matrix, (
            f"The image deviates from the spots by {misfit_in_pitches:.2g} pitches on average, which no affine "
            "transformation can correct.",
        )
    return matrix, ()


def _known_pixel_size(size: tuple[int, ...], library: Mapping[str, Any]) -> float | None:
    """Return the side of a pixel in full-resolution pixels: that of a stored image of the same size, else 1."""
    pictures, factors = library.get("images", {}), scale_factors(library)
    for resolution in _RESOLUTIONS if isinstance(pictures, Mapping) else ():
        zoom = factors.get(f"tissue_{resolution}_scalef")
        if zoom is not None and resolution in pictures and np.shape(pictures[resolution])[:2] == tuple(size):
            return 1 / zoom
    return 1.0 if any(key.endswith("_scalef") for key in factors) else None
