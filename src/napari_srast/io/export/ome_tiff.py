"""Write genes as the channels of an OME-TIFF: float32, tiled, with a pyramid, and the size of a pixel.

Pixels outside the spots are 0, because most viewers cannot show NaN. The image is in the frame of the raster, which
follows the lattice of the spots; the affine to the coordinates of the spots is in its description.
"""

from __future__ import annotations

import html
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_srast._version import __version__
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.core.result import UpsampleResult
from napari_srast.io.export.content import ExportContent
from napari_srast.io.result_images import ColumnReader

__all__ = ["write_image_tiff", "write_ome_tiff"]

_ESCAPES_SINCE = (2026, 2, 24)  # version of tifffile
_TILE = 256
_MAX_TIFF_BYTES = 2**32 - 2**25  # larger files need 64-bit offsets
_UM_PER_CM = 1e4


def write_ome_tiff(
    result: UpsampleResult, content: ExportContent, path: Path, monitor: RunMonitor = NO_MONITOR
) -> None:
    """Write genes of a result as OME-TIFF.

    Parameters
    ----------
    result
        The result.
    content
        Genes and matrix.
    path
        The file; its directory exists.
    monitor
        Receives progress and is asked for cancellation before each image.
    """
    raster = result.raster
    description = {
        "software": f"napari-srast {__version__}",
        "run": result.run,
        "layer": content.layer,
        "pixel_to_spots": np.asarray(raster.affine).tolist(),
        "unit": result.slide.unit,
    }
    _write(
        path,
        (len(content.genes), *raster.shape),
        lambda channel: np.nan_to_num(raster.to_image(content.read(channel)), nan=0.0),
        _metadata(content.genes, raster.pixel_size if result.slide.unit == "um" else None, description),
        monitor,
    )


def write_image_tiff(images: Mapping[str, np.ndarray], path: Path, um_per_pixel: float | None) -> None:
    """Write images of the same size as the channels of an OME-TIFF.

    Parameters
    ----------
    images
        The images by the names of their channels, each of shape (rows, columns); NaN becomes 0.
    path
        The file.
    um_per_pixel
        Side of a pixel in micrometers; None if it is unknown.
    """
    channels = list(images.values())
    _write(
        path,
        (len(channels), *channels[0].shape),
        lambda channel: np.nan_to_num(np.asarray(channels[channel], dtype=np.float32), nan=0.0),
        _metadata(tuple(images), um_per_pixel, {"software": f"napari-srast {__version__}"}),
    )


def _metadata(names: tuple[str, ...], um_per_pixel: float | None, description: dict[str, Any]) -> dict[str, Any]:
    size = {f"PhysicalSize{axis}": um_per_pixel for axis in "XY"} if um_per_pixel else {}
    units = {f"{key}Unit": "µm" for key in size}
    text = json.dumps(description, ensure_ascii=False)
    identity = uuid.uuid5(uuid.NAMESPACE_OID, f"{text} {names}")  # not random, so that equal exports are equal files
    return {
        "UUID": f"urn:uuid:{identity}",
        "axes": "CYX",
        "Channel": {"Name": [_escaped(name) for name in names]},
        "Description": text,
        **size,
        **units,
    }


def _escaped(name: str) -> str:
    """Return a name as tifffile takes it: versions before 2026.2.24 copy it into the XML as it is."""
    import tifffile

    version = tuple(int(part) for part in tifffile.__version__.split(".")[:3])
    return name if version >= _ESCAPES_SINCE else html.escape(name)


def _write(
    path: Path,
    shape: tuple[int, int, int],
    read: ColumnReader,
    metadata: dict[str, Any],
    monitor: RunMonitor = NO_MONITOR,
) -> None:
    """Write a pyramid; ``read`` returns a channel of the finest level, and is called once for each level."""
    import tifffile

    n_levels = 1
    while -(-max(shape[1:]) // 2 ** (n_levels - 1)) > _TILE:
        n_levels += 1
    n_images = n_levels * shape[0]
    size = metadata.get("PhysicalSizeX")

    def tiles(level: int) -> Iterator[np.ndarray]:
        for channel in range(shape[0]):
            monitor.check_canceled()
            monitor.report_fraction("saving", (level * shape[0] + channel) / n_images)
            image = read(channel)
            for _ in range(level):
                image = _halve(image)
            yield from _tiles(image)

    with tifffile.TiffWriter(path, bigtiff=4 * np.prod(shape, dtype=float) * 4 / 3 > _MAX_TIFF_BYTES, ome=True) as file:
        for level in range(n_levels):
            rows, cols = (-(-side // 2**level) for side in shape[1:])
            unit = None if size is None else _UM_PER_CM / (size * 2**level)
            file.write(
                tiles(level),
                shape=(shape[0], rows, cols),
                dtype=np.float32,
                tile=(_TILE, _TILE),
                photometric="minisblack",
                compression="zlib",
                resolution=None if unit is None else (unit, unit),
                resolutionunit=None if unit is None else "CENTIMETER",
                software=False,
                **({"subifds": n_levels - 1, "metadata": metadata} if level == 0 else {"subfiletype": 1}),
            )


def _tiles(image: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the tiles of an image, row by row, filled up with zeros."""
    for top in range(0, image.shape[0], _TILE):
        for left in range(0, image.shape[1], _TILE):
            part = image[top : top + _TILE, left : left + _TILE]
            yield np.pad(part, [(0, _TILE - side) for side in part.shape])


def _halve(image: np.ndarray) -> np.ndarray:
    """Return the means of blocks of 2 x 2 pixels; an odd border is repeated."""
    even = np.pad(image, [(0, side % 2) for side in image.shape], mode="edge")
    rows, cols = even.shape
    return even.reshape(rows // 2, 2, cols // 2, 2).mean(axis=(1, 3), dtype=np.float32)
