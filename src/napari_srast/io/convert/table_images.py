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
    full_sizes,
    image_channels,
    is_size,
    multiscale_image,
    orientation_notice,
    read_image_file,
    scale_contradiction,
)
from napari_srast.io.convert.stated_positions import coordinates
from napari_srast.io.convert.tiff_images import on_white
from napari_srast.io.spots import is_valid_length
from napari_srast.io.store import element_name
from napari_srast.io.transforms import fit_affine, to_affine

if TYPE_CHECKING:
    import anndata

__all__ = ["TableImages", "factors_of_positions", "scale_factors", "stored_images", "user_image"]

_RESOLUTIONS = ("fullres", "hires", "lowres")
_CIRCLES, _BINS = (0.5, 0.7), (0.9, 1.1)  # stated diameters in pitches: Space Ranger gives 55 or 65 um of 100 um
_OVERLAP = 1.5  # of a stated diameter, to the largest one that spots of such a lattice have
_MICROMETERS = "micrometers"
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
    given
        Name of the image that the user gave; None if there is none.
    """

    elements: dict[str, Any]
    systems: dict[str, np.ndarray]
    notices: tuple[str, ...] = ()
    given: str | None = None


def scale_factors(library: Mapping[str, Any]) -> dict[str, float]:
    """Return the scale factors of an entry of ``uns["spatial"]`` that are lengths, also as text or arrays of one."""
    factors = library.get("scalefactors", {})
    lengths = {}
    for key, value in factors.items() if isinstance(factors, Mapping) else ():
        try:
            (number,) = np.ravel(np.asarray(value)).astype(float)
        except (TypeError, ValueError):
            continue
        if is_valid_length(number):
            lengths[str(key)] = float(number)
    pictures = library.get("images", {})
    if isinstance(pictures, Mapping) and "fullres" in pictures:
        lengths.setdefault("tissue_fullres_scalef", 1.0)  # the positions are given on this image
    return lengths


def factors_of_positions(
    factors: Mapping[str, float], points: np.ndarray
) -> tuple[dict[str, float] | None, tuple[str, ...]]:
    """Return the scale factors for the image on whose pixels the positions are given, with a notice if it is smaller.

    None are returned if the positions are in another unit than pixels of any image: by the scale factors, the spots
    would be larger than their distance.

    Space Ranger gives positions in pixels of the full-resolution image. Seurat and some scripts multiply them by the
    scale of a smaller image, which shows in the ratio of spot diameter and pitch.

    Parameters
    ----------
    factors
        Scale factors of Space Ranger, for positions in full-resolution pixels.
    points
        Positions (x, y) in the table, shape (N, 2).
    """
    diameter = factors.get("spot_diameter_fullres")
    zooms = {name: factors[f"tissue_{name}_scalef"] for name in _RESOLUTIONS if f"tissue_{name}_scalef" in factors}
    if diameter is None or not zooms or len(points) < 3:
        return dict(factors), ()
    if "microns_per_pixel" in factors:
        zooms[_MICROMETERS] = factors["microns_per_pixel"]
    lattice = detect_lattice(points)
    low, high = _BINS if lattice.kind == "square" else _CIRCLES
    fitting = [name for name, zoom in zooms.items() if low < diameter * zoom / lattice.pitch < high]
    if lattice.kind == "irregular" or low < diameter / lattice.pitch < high:
        return dict(factors), ()
    if len(fitting) != 1:
        if diameter / lattice.pitch < _OVERLAP * high:
            return dict(factors), ()
        return None, (
            f"By the scale factors in uns['spatial'], the spots measure {diameter / lattice.pitch:.3g} times their "
            "distance, so the positions are not in pixels of the full-resolution image; the scale factors and the "
            "images were left out (write positions in these pixels to keep them).",
        )
    zoom = zooms[fitting[0]]
    converted = {
        key: value * zoom if key.endswith("_fullres") else value / zoom if _is_per_pixel(key) else value
        for key, value in factors.items()
    }
    if fitting[0] == _MICROMETERS:
        return converted, (
            "The distances of the spots show that the positions are in micrometers instead of pixels of the "
            "full-resolution image; they were read so.",
        )
    return converted, (
        f"The distances of the spots show that the positions are in pixels of image '{fitting[0]}' instead of the "
        "full-resolution image; they were read so.",
    )


def _is_per_pixel(key: str) -> bool:
    return key.endswith("_scalef") or key == "microns_per_pixel"


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
        Its scale factors, from :func:`factors_of_positions`: pixels of an image per unit of ``points``.
    points
        Positions (x, y) in the table, shape (N, 2).
    scale
        Length of one unit of ``points`` in the unit of the spots.
    """
    placed, notices = {}, []
    pictures = library.get("images", {})
    pictures = pictures if isinstance(pictures, Mapping) else {}
    for resolution in (*(key for key in _RESOLUTIONS if key in pictures), *sorted(set(pictures) - {*_RESOLUTIONS})):
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
        placed[resolution] = pixels, zoom
    contradiction = scale_contradiction(
        _full_sizes({key: pixels.shape[1:] for key, (pixels, _) in placed.items()}, factors)
    )
    if contradiction is not None:
        listed = ", ".join(map(repr, placed))
        notices.append(f"The images {listed} in uns['spatial']['{name}'] were left out, because {contradiction}.")
        placed = {}
    elements, systems = {}, {}
    for resolution, (pixels, zoom) in placed.items():
        title = element_name(f"{name}_{resolution}_image")
        system = element_name(name if resolution == "fullres" else f"{name}_downscaled_{resolution}")
        to_spots = np.diag([scale / zoom, scale / zoom, 1.0])
        systems[system] = np.linalg.inv(to_spots)
        elements[title] = multiscale_image(pixels, {"global": to_affine(to_spots), system: to_affine(np.eye(3))})
    return TableImages(elements, systems, tuple(notices))


def _full_sizes(shapes: Mapping[str, tuple[int, ...]], factors: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    return full_sizes(shapes, {name: factors[key] for name in shapes if (key := f"tissue_{name}_scalef") in factors})


def user_image(
    path: str | Path,
    table: anndata.AnnData,
    points: np.ndarray,
    *,
    library: Mapping[str, Any],
    factors: Mapping[str, float],
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
    factors
        Its scale factors, from :func:`factors_of_positions`.
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
    to_points, notices = _image_affine(table, points, pixels.shape[1:], library, factors, pixel_size)
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
    element = multiscale_image(
        pixels, {"global": to_affine(to_spots), system: to_affine(np.eye(3))}, image_channels(path)
    )
    notices = (*orientation_notice(path), *notices)
    return TableImages({name: element}, {system: np.linalg.inv(to_spots)}, notices, name)


def _channels_first(picture: Any) -> np.ndarray | None:
    """Return an image (y, x), (y, x, c) or (c, y, x) as (c, y, x) of a type that viewers show, or None."""
    try:
        pixels = np.asarray(picture)
    except (TypeError, ValueError):
        return None
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4) and pixels.shape[0] in (1, 3, 4):
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or pixels.dtype.kind not in "uif" or 0 in pixels.shape:
        return None
    if pixels.dtype.kind == "f":  # Matplotlib reads .png files as fractions of 1
        values = np.nan_to_num(pixels)
        if values.min() < 0:
            return None
        kind = np.uint8 if values.max() <= np.iinfo(np.uint8).max else np.uint16
        values = values * (np.iinfo(kind).max if values.max() <= 1 else 1.0)
        pixels = np.clip(np.rint(values), 0, np.iinfo(kind).max).astype(kind)
    elif pixels.dtype.itemsize > MAX_INTEGER_BYTES:  # a list of Python integers becomes int64
        small = np.uint8 if pixels.max() <= np.iinfo(np.uint8).max else np.uint16
        pixels = np.clip(pixels, 0, np.iinfo(small).max).astype(small)
    if pixels.shape[2] == 4:
        pixels = on_white(pixels)
    return np.ascontiguousarray(np.moveaxis(pixels, 2, 0))


def _image_affine(
    table: anndata.AnnData,
    points: np.ndarray,
    size: tuple[int, ...],
    library: Mapping[str, Any],
    factors: Mapping[str, float],
    pixel_size: float | None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the (3, 3) matrix from image pixels to the positions in the table, and notices."""
    if "spatial_px" not in table.obsm:
        if pixel_size is None:
            pixel_size = _known_pixel_size(size, library, factors)
        if pixel_size is None:
            raise InputError(
                "The table does not contain the positions of its spots on the image; add obsm['spatial_px'] (the spots "
                "in image pixels), or give --pixel-size if both have the same origin."
            )
        return np.diag([pixel_size, pixel_size, 1.0]), ()
    on_image = coordinates(table, "spatial_px", "the table")[:, :2]
    known = np.isfinite(on_image).all(axis=1)
    matrix, misfit = fit_affine(on_image[known], points[known])
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


def _known_pixel_size(size: tuple[int, ...], library: Mapping[str, Any], factors: Mapping[str, float]) -> float | None:
    """Return the side of a pixel in units of the positions: that of a stored image of the same size, else 1.

    Raises
    ------
    InputError
        The image has neither the size of a stored image nor that of the full-resolution image.
    """
    pictures = library.get("images", {})
    pictures = pictures if isinstance(pictures, Mapping) else {}
    shapes = {}
    for resolution in _RESOLUTIONS:
        pixels = _channels_first(pictures[resolution]) if resolution in pictures else None
        zoom = factors.get(f"tissue_{resolution}_scalef")
        if pixels is not None and zoom is not None:
            shapes[resolution] = pixels.shape[1:]
            if shapes[resolution] == tuple(size):
                return 1 / zoom
    sizes = _full_sizes(shapes, factors)
    if sizes and not any(is_size(full, size) for full in sizes.values()):
        rows, columns = next(iter(sizes.values()))
        raise InputError(
            f"The image has {size[1]} x {size[0]} pixels, but by the scale factors of the table the positions are on "
            f"one of {columns:.0f} x {rows:.0f}; give that one, or --pixel-size if both have the same origin."
        )
    return 1.0 if any(key.endswith("_scalef") for key in factors) else None
