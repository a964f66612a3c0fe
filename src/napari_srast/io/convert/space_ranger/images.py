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
from napari_srast.io.convert.images import check_spots_on_image, read_image_file
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
    return {
        key: float(value)
        for key, value in content.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and is_valid_length(value)
    }, ()


def place_images(
    files: Mapping[str, Path],
    factors: Mapping[str, float],
    full_size: tuple[int, int] | None,
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
        Width and height of the full-resolution image; None if it is unknown.
    points
        Spot centers (x, y) in pixels of the full-resolution image, shape (N, 2).

    Returns
    -------
    tuple
        Pixels (c, y, x) and pixels per full-resolution pixel of each image, by resolution, and a notice for each image
        that was left out.
    """
    pixels, notices = {}, []
    for resolution, path in files.items():
        try:
            pixels[resolution] = _read_image(path)
        except InputError:
            notices.append(f"Image '{path.name}' cannot be read and was left out; restore it from a copy.")
    widths = {resolution: image.shape[2] for resolution, image in pixels.items()}
    full_width = full_size[0] if full_size is not None else None
    for resolution, width in widths.items():
        if full_width is None and f"tissue_{resolution}_scalef" in factors:
            full_width = width / factors[f"tissue_{resolution}_scalef"]
    placed = {}
    for resolution, image in pixels.items():
        name = files[resolution].name
        scale = factors.get(f"tissue_{resolution}_scalef")
        if scale is None and full_width is not None:
            scale = widths[resolution] / full_width
        if scale is None:
            notices.append(
                f"The scale of image '{name}' is unknown without scalefactors_json.json, so it was left out; add this "
                "file, or give the full-resolution image with --image."
            )
            continue
        try:
            check_spots_on_image(points * scale, image.shape[1:], files[resolution], "restore its scale factor")
        except InputError:
            notices.append(
                f"Most spots are outside of image '{name}' by its scale factor, {scale:.4g}, so it was left out."
            )
            continue
        placed[resolution] = image, scale
    return placed, tuple(notices)


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
