"""Write pixels or the region of a result as GeoJSON objects with measurements, which QuPath imports.

QuPath places objects in pixels of the full-resolution image, with the origin at its upper left corner. So the objects
of a slide with histology are in pixels of that image, and those of other slides in the slide's coordinate system.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import shapely

from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.core.result import UpsampleResult
from napari_srast.errors import InputError
from napari_srast.geometry.affine import apply_affine
from napari_srast.io.export.content import ExportContent

__all__ = ["OBJECTS", "Objects", "write_qupath"]

Objects = Literal["pixels", "region"]
OBJECTS: tuple[Objects, ...] = ("pixels", "region")
"""What becomes an object: each pixel a detection, or the region of the run one annotation."""

_CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]], dtype=float)  # of a pixel, (column, row)
_BLOCK = 5_000  # pixels that are formatted together
_DECIMALS = 3  # of coordinates
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "napari-srast")


def write_qupath(
    result: UpsampleResult,
    content: ExportContent,
    path: Path,
    objects: Objects,
    monitor: RunMonitor = NO_MONITOR,
) -> None:
    """Write a GeoJSON file with one object per pixel, or one for the region.

    Parameters
    ----------
    result
        The result.
    content
        Genes and matrix: each gene is a measurement of a pixel; of a region, its mean over the pixels and, for counts,
        its sum.
    path
        The file.
    objects
        "pixels" or "region".
    monitor
        Receives progress and is asked for cancellation before each block of pixels.

    Raises
    ------
    InputError
        The region was asked for, but the result is of the whole slide.
    """
    features = _pixel_features(result, content, monitor) if objects == "pixels" else [_region_feature(result, content)]
    with path.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [\n')
        for i, feature in enumerate(features):
            file.write((",\n" if i else "") + json.dumps(feature, ensure_ascii=False, allow_nan=False))
        file.write("\n]}\n")


def _to_frame(result: UpsampleResult) -> np.ndarray:
    """Return the affine (x, y) from the spots' intrinsic frame to the frame of the objects."""
    image = result.slide.image
    return result.slide.to_cs if image is None else np.linalg.inv(image.to_intrinsic[0])


def _pixel_features(result: UpsampleResult, content: ExportContent, monitor: RunMonitor) -> Iterator[dict[str, Any]]:
    raster = result.raster
    to_frame = _to_frame(result) @ raster.affine
    values = np.column_stack([content.read(i) for i in range(len(content.genes))])
    for start in range(0, raster.n_pixels, _BLOCK):
        monitor.check_canceled()
        monitor.report_fraction("saving", start / raster.n_pixels)
        block = slice(start, min(start + _BLOCK, raster.n_pixels))
        corners = np.column_stack([raster.col[block], raster.row[block]])[:, None] + _CORNERS
        rings = apply_affine(to_frame, corners.reshape(-1, 2)).reshape(corners.shape).round(_DECIMALS)
        for k, ring, row in zip(range(block.start, block.stop), rings.tolist(), values[block], strict=True):
            yield _feature(
                f"{result.run} pixel {k}",
                {"type": "Polygon", "coordinates": [ring]},
                {"objectType": "detection", "name": str(result.slide.spot_ids[raster.parent[k]])},
                dict(zip(content.genes, row, strict=True)),
            )


def _region_feature(result: UpsampleResult, content: ExportContent) -> dict[str, Any]:
    region, slide = result.region, result.slide
    if region is None:
        raise InputError("The result is of the whole slide, so it has no region; export its pixels instead.")
    matrix = _to_frame(result) @ np.linalg.inv(slide.transforms[region.coordinate_system])
    outline = shapely.transform(region.geometry, lambda points: apply_affine(matrix, points).round(_DECIMALS))
    measurements: dict[str, float] = {"pixels": result.n_pixels, "spots": len(result.raster.spots)}
    for i, gene in enumerate(content.genes):
        values = content.read(i).astype(np.float64)
        measurements[f"{gene}: mean"] = values.mean()
        if content.layer == "counts":
            measurements[f"{gene}: sum"] = values.sum()
    properties = {"objectType": "annotation", "name": result.run}
    return _feature(f"{result.run} region", json.loads(shapely.to_geojson(outline)), properties, measurements)


def _feature(
    name: str, geometry: dict[str, Any], properties: dict[str, Any], measurements: dict[str, float]
) -> dict[str, Any]:
    """Build a feature; nine digits identify every float32."""
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_NAMESPACE, name)),
        "geometry": geometry,
        "properties": {
            **properties,
            "measurements": {key: float(f"{value:.9g}") for key, value in measurements.items()},
        },
    }
