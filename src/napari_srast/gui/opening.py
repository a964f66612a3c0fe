"""Reading a slide in a worker, with the choices it leaves open and the devices found meanwhile."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Layer

from napari_srast.slide import Slide

if TYPE_CHECKING:
    import spatialdata

__all__ = ["Choices", "Opened", "Shown", "load", "load_sample", "present_devices", "shown_elsewhere"]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Elements of a store that a slide could be made of."""

    spots: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    images: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """A slide that was read, what it was read from, and what else could be chosen there."""

    slide: Slide
    source: Any
    choices: Choices = field(default_factory=Choices)
    devices: tuple[str, ...] = ("auto", "cpu")


@dataclass(frozen=True, eq=False)
class Shown:
    """A SpatialData object that napari-spatialdata shows."""

    sdata: spatialdata.SpatialData
    coordinate_system: str | None
    layers: tuple[Layer, ...]


def load(source: str | Path | spatialdata.SpatialData, **elements: str | None) -> Opened:
    """Read a slide from a store or from SpatialData in memory; ``elements`` name what was chosen."""
    from napari_srast.io.slides import read_slide, slide_choices

    given = {key: value for key, value in elements.items() if value is not None}
    slide = read_slide(source, **given)
    found = slide_choices(source)
    choices = Choices(spots=tuple(found.spots), tables=tuple(found.tables), images=tuple(found.images))
    # Imports hold Python's lock for half a second at a time: better now than while the user watches a run.
    for name in ("models.sasa", "models.checkpoint", "splitting.srast"):
        importlib.import_module(f"napari_srast.{name}")
    return Opened(slide=slide, source=source, choices=choices, devices=present_devices())


def load_sample() -> Opened:
    """Make the built-in synthetic slide."""
    from napari_srast.io.sample import sample_path

    return load(sample_path())


def present_devices() -> tuple[str, ...]:
    """Return the devices that this computer has; imports PyTorch, so call it in a worker."""
    import torch

    devices = ["auto", "cpu"]
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return tuple(devices)


def shown_elsewhere(layers: Iterator[Layer] | list[Layer]) -> list[Shown]:
    """Return the SpatialData objects behind napari-spatialdata's layers; its metadata is only read."""
    groups: dict[int, list[Layer]] = {}
    for layer in layers:
        if layer.metadata.get("sdata") is not None:
            groups.setdefault(id(layer.metadata["sdata"]), []).append(layer)
    return [Shown(g[0].metadata["sdata"], g[0].metadata.get("_current_cs"), tuple(g)) for g in groups.values()]
