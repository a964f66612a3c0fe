"""Place the images of a Space Ranger folder on the full-resolution image, on which the positions are given."""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from napari_srast._utils.text import first_line, read_text
from napari_srast.errors import InputError
from napari_srast.io.convert.images import (
    check_spots_on_image,
    full_sizes,
    is_size,
    read_image_file,
    scale_contradiction,
)
from napari_srast.io.spots import is_valid_length

__all__ = ["place_images", "read_factors"]


def read_factors(path: Path | None) -> tuple[dict[str, float], tuple[str, ...]]:
    """Read ``scalefactors_json.json``.

    Parameters
    ----------
    path
        The file, also compressed with gzip; None if there is none.

    Returns
    -------
    tuple
        The factors that are lengths, and a notice if the file cannot be read.
    """
    if path is None:
        return {}, ()
    try:
        if path.suffix.casefold() == ".gz":
            with gzip.open(path, "rt", encoding="utf-8-sig") as file:
                content = json.loads(file.read(1_000_000))
        else:
            content = json.loads(read_text(path))
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
    except (OSError, EOFError, ValueError, RecursionError) as error:
        return {}, (f"The scale factors '{path.name}' cannot be read ({first_line(error)}) and were left out.",)
    factors = {}
    for key, value in content.items():
        try:
            number = float(value)  # some programs write numbers as text
        except (TypeError, ValueError):
            continue
        if is_valid_length(number) and not isinstance(value, bool):
            factors[key] = number
    return factors, ()


def place_images(
    files: Mapping[str, Path],
    factors: Mapping[str, float],
    full_size: tuple[int, ...] | None,
    points: np.ndarray,
) -> tuple[dict[str, tuple[np.ndarray, float]], tuple[str, ...]]:
    """Read the images of the folder; those that are damaged or of unknown scale are left out.

    Parameters
    ----------
    files
        Image files by resolution, "hires" and "lowres".
    factors
        Scale factors.
    full_size
        Numbers of rows and columns of the full-resolution image; None if it is unknown.
    points
        Spot centers (x, y) in pixels of the full-resolution image, shape (N, 2).

    Returns
    -------
    tuple
        Pixels (c, y, x) and pixels per full-resolution pixel of each image, by resolution, and a notice for each image
        that was left out.

    Raises
    ------
    InputError
        The full-resolution image has another size than the scale factors say.
    """
    pixels, notices = {}, []
    for resolution, path in files.items():
        try:
            pixels[resolution] = _read_image(path)
        except InputError:
            notices.append(f"Image '{path.name}' cannot be read and was left out; restore it from a copy.")
    stated = {name.removeprefix("tissue_").removesuffix("_scalef"): value for name, value in factors.items()}
    sizes = full_sizes({resolution: image.shape[1:] for resolution, image in pixels.items()}, stated)
    if full_size is not None:
        _check_size(full_size, sizes)
    full_width = full_size[1] if full_size is not None else next((columns for _, columns in sizes.values()), None)
    placed = {}
    for resolution, image in pixels.items():
        name = files[resolution].name
        scale = stated.get(resolution)
        if scale is None and full_width is not None:
            scale = image.shape[2] / full_width
        if scale is None:
            notices.append(
                f"The scale of image '{name}' is unknown without the number 'tissue_{resolution}_scalef' in "
                "scalefactors_json.json, so it was left out; add it, or give the full-resolution image with --image."
            )
            continue
        try:
            check_spots_on_image(points * scale, image.shape[1:], files[resolution], "restore its scale")
        except InputError:
            notices.append(
                f"Most spots are outside of image '{name}' by its scale factor, {scale:.4g}, so it was left out."
            )
            continue
        placed[resolution] = image, scale
    wrong, reason = _contradicting(
        {resolution: sizes[resolution] for resolution in placed if resolution in sizes}, full_size
    )
    notices += [f"Image '{files[resolution].name}' was left out, because {reason}." for resolution in wrong]
    return {resolution: place for resolution, place in placed.items() if resolution not in wrong}, tuple(notices)


def _check_size(full_size: tuple[int, ...], sizes: Mapping[str, tuple[float, float]]) -> None:
    """Refuse a full-resolution image of a size that no smaller image and its scale factor lead to."""
    if not sizes or any(is_size(size, full_size) for size in sizes.values()):
        return
    rows, columns = next(iter(sizes.values()))
    raise InputError(
        f"The image has {full_size[1]} x {full_size[0]} pixels, but by the scale factors Space Ranger processed one of "
        f"{columns:.0f} x {rows:.0f}; give that one with --image."
    )


def _contradicting(
    sizes: Mapping[str, tuple[float, float]], full_size: tuple[int, ...] | None
) -> tuple[list[str], str | None]:
    """Return the images whose scale cannot be trusted, and why: all of them if nothing tells which one is right."""
    reason = scale_contradiction(sizes)
    if reason is None:
        return [], None
    return [name for name, size in sizes.items() if full_size is None or not is_size(size, full_size)], reason


def _read_image(path: Path) -> np.ndarray:
    if path.suffix.casefold() != ".gz":
        return read_image_file(path)
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / path.stem
        try:
            with gzip.open(path, "rb") as source, unpacked.open("wb") as target:
                shutil.copyfileobj(source, target)
        except (OSError, EOFError) as error:
            raise InputError(f"'{path}' cannot be unpacked ({first_line(error)}); restore it from a copy.") from error
        return read_image_file(unpacked)
