"""Build the provenance of a result: what is needed to assess it, repeat it and open it again."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from napari_srast._version import __version__
from napari_srast.core.result import UpsampleMetadata

__all__ = ["FORMAT_VERSION", "describe_result", "stored_mappings", "to_storable"]

FORMAT_VERSION = 2
"""Version of the layout of ``uns["napari_srast"]``."""
_MAX_ENTRIES = 50
"""Entries of a mapping that is stored as such: each becomes a file of its own, which takes some 10 ms to write."""


def describe_result(result: UpsampleMetadata, elements: Mapping[str, Any]) -> dict[str, Any]:
    """Build the content of ``uns["napari_srast"]``.

    It contains the provenance of the run, completed with settings, input and region where the provenance lacks them;
    the names of the result's other elements; and under ``reopen`` what :func:`napari_srast.read_result` needs. Entries
    that are None are omitted.

    Parameters
    ----------
    result
        The result, with or without its counts.
    elements
        Names of the result's elements in the store, and the genes of each image's channels.
    """
    settings = dataclasses.asdict(result.settings)
    slide, region = result.slide, result.region
    entries = {
        "version": __version__,
        **{key: settings[key] for key in ("seed", "mode", "steps", "draws", "factor", "footprint")},
        "genes": result.genes.astype(str).tolist(),
        "input": dataclasses.asdict(slide.source),
        "coordinate_system": slide.coordinate_system,
        "region": None if region is None else region.wkt,
        "region_coordinate_system": None if region is None else region.coordinate_system,
        "synthetic": slide.source.synthetic,
    }
    stored = to_storable({**entries, **result.provenance})
    stored.update(
        to_storable(
            {
                "format_version": FORMAT_VERSION,
                "run": result.run,
                "pixel_size": result.raster.pixel_size,
                **elements,
                "reopen": _reopen_entries(result, settings),
            }
        )
    )
    return stored


def stored_mappings(value: Any) -> Any:
    """Return a stored mapping whose entries are mappings again if :func:`to_storable` made them JSON text."""
    if isinstance(value, Mapping):
        return {key: stored_mappings(item) for key, item in value.items()}
    if isinstance(value, str) and value.startswith("{"):
        with contextlib.suppress(ValueError):
            return json.loads(value)
    return value


def _reopen_entries(result: UpsampleMetadata, settings: dict[str, Any]) -> dict[str, Any]:
    slide, raster, region = result.slide, result.raster, result.region
    return {
        "settings": settings,
        "region": None if region is None else {"wkt": region.wkt, "coordinate_system": region.coordinate_system},
        "source": dataclasses.asdict(slide.source),
        "unit": slide.unit,
        "spot_diameter": slide.spot_diameter,
        "spot_shape": slide.spot_shape,
        "coordinate_system": slide.coordinate_system,
        "systems": list(slide.transforms),
        "transforms": np.stack(list(slide.transforms.values())),
        # The spots that have pixels are enough to show the result if its slide is deleted.
        "spot_ids": slide.spot_ids[raster.spots].astype(str).tolist(),
        "spot_centers": slide.centers[raster.spots],
        "raster": {
            "shape": list(raster.shape),
            "pixel_size": raster.pixel_size,
            "affine": raster.affine,
            "footprint": raster.footprint,
            "lattice": dataclasses.asdict(raster.lattice),
        },
    }


def to_storable(value: Any) -> Any:
    """Convert a nested value to types that every table format can store.

    Mappings of few entries, whose keys are names, stay mappings without their None entries. Flat lists become arrays.
    Everything else that is not a number, text or array becomes JSON text.

    Parameters
    ----------
    value
        The value.
    """
    if isinstance(value, Mapping):
        if len(value) > _MAX_ENTRIES or any(not isinstance(key, str) or "/" in key or not key for key in value):
            return json.dumps(value, default=str)
        return {key: to_storable(item) for key, item in value.items() if item is not None}
    if isinstance(value, np.ndarray):
        return value.astype(str).astype(object) if value.dtype.kind in "OUS" else value
    if isinstance(value, list | tuple):
        if all(isinstance(item, str) for item in value):
            return np.array(value, dtype=object)
        if all(isinstance(item, bool | int | float | np.number) for item in value):
            return np.array(value)
        return json.dumps(value, default=str)
    if isinstance(value, bool | int | float | str | np.generic):
        return value
    return str(value)
